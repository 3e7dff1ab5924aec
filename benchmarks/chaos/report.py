"""What a run says in the end."""

import statistics
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from chaos.checker import ChaosResult, Violation
from chaos.drain import LIMIT_S
from chaos.monitor import GROWING, Monitor
from chaos.nemesis import Fired, Nemesis
from chaos.slopes import Slope
from regather_cli.supervision import Supervision

_KILLED = -9
_SHOWN = 50


@dataclass(slots=True)
class Run:
    """Everything of a run beside the topics. `not_quiet`: what had not drained when the wait was given up."""

    seed: int
    began_s: float = field(default_factory=time.monotonic)
    fired: list[Fired] = field(default_factory=list)
    chosen_anew: int = 0
    too_rare: list[str] = field(default_factory=list)
    drain_s: float = 0.0
    not_quiet: str = ""
    slopes: dict[str, dict[str, Slope]] = field(default_factory=dict)
    exits: Counter[str] = field(default_factory=Counter)
    leftover: list[int] = field(default_factory=list)
    no_volumes_because: str = ""

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self.began_s

    def ended(
        self, nemesis: Nemesis, supervision: Supervision, monitor: Monitor, drain_s: float, not_quiet: str
    ) -> None:
        """Take over what is known when the quiet phase is over."""
        self.fired, self.chosen_anew, self.too_rare = nemesis.fired, nemesis.chosen_anew, nemesis.too_rare
        self.drain_s, self.not_quiet = round(drain_s, 1), not_quiet
        self.slopes = monitor.slopes()
        self.exits = Counter(f"{end.service} {end.code}" for end in supervision.exits if end.code != _KILLED)

    def violations(self) -> list[Violation]:
        """What the topics do not show."""
        found = [Violation("fault", "", f"{fired}: {fired.error}") for fired in self.fired if fired.error]
        found += [Violation("idle", "", str(fired)) for fired in self.fired if not fired.found and not fired.error]
        found += [Violation("rare", "", f"{kind} was struck less often than it has to be") for kind in self.too_rare]
        if self.not_quiet or self.drain_s > LIMIT_S:
            found.append(
                Violation("drain", "", f"after {self.drain_s} s: {self.not_quiet or 'all quiet, but too late'}")
            )
        if self.leftover:
            found.append(Violation("leftover", "", f"processes of ended services still live: {self.leftover}"))
        return found


def report_of(run: Run, verdict: ChaosResult, *, wanted: int, logs: str) -> dict[str, Any]:
    """The one JSON object."""
    fired = len(run.fired)
    return {
        "ok": not verdict.violations and fired == wanted,
        "seed": run.seed,
        "faults_fired": fired,
        "faults": dict(sorted(Counter(fault.kind.value for fault in run.fired).items())),
        "faults_idle": sum(not fault.found for fault in run.fired),
        "faults_chosen_anew": run.chosen_anew,
        "jobs": verdict.jobs,
        "shards": verdict.shards,
        "lost": verdict.count("lost"),
        "duplicate_finals": verdict.count("duplicate-final"),
        "wrong": verdict.count("wrong") + verdict.count("ghost"),
        "unfinished": verdict.count("unfinished"),
        "dead_letters_missing": verdict.count("dead-letter-missing"),
        "versions_checked": verdict.versions_checked,
        "duplicates_folded": verdict.duplicates_folded,
        "executions_max": verdict.executions_max,
        "executions_max_unfailed": verdict.executions_max_unfailed,
        "most_executed": _most_executed(verdict),
        "letters_unnamed": verdict.letters_unnamed,
        "accepted_after_s": quantiles(verdict.accepted_after_s),
        "ended_after_s": quantiles(verdict.ended_after_s),
        "drain_s": run.drain_s,
        **{name: max(slopes_of(run, name).values(), default=0.0) for name in GROWING},
        "slopes": {name: slopes_of(run, name) for name in GROWING},
        "slopes_seen_in": seen_in(run),
        "healed_after_s": healed_after_s(run.fired),
        "exits": dict(sorted(run.exits.items())),
        "disk_full_by": f"limit of file sizes ({run.no_volumes_because})" if run.no_volumes_because else "tmpfs",
        "violations": [str(violation) for violation in verdict.violations[:_SHOWN]],
        "violations_in_all": len(verdict.violations),
        "logs": logs,
    }


def _most_executed(verdict: ChaosResult) -> str:
    if verdict.most_executed is None:
        return ""
    job_id, _, version, seq = verdict.most_executed
    return f"shard {seq} of job {job_id}, version {version}"


def slopes_of(run: Run, name: str) -> dict[str, float]:
    """Growth per hour by role; roles of which no process lived long enough to say anything are left out."""
    return {role: slope.per_hour for role, slope in run.slopes.get(name, {}).items() if slope.lives}


def seen_in(run: Run) -> dict[str, dict[str, float]]:
    """What the slopes were seen in, by role: how many lives, and their seconds after warming up."""
    slopes = next(iter(run.slopes.values()), {})
    return {role: {"lives": slope.lives, "seconds": slope.seconds} for role, slope in slopes.items()}


def healed_after_s(fired: list[Fired]) -> dict[str, dict[str, float]]:
    """By sort: median and longest time from a fault to all that it struck being back."""
    took: dict[str, list[float]] = defaultdict(list)
    for fault in fired:
        took[fault.kind.value].append(fault.ended_s - fault.began_s)
    return {
        kind: {"p50": round(statistics.median(seconds), 1), "max": round(max(seconds), 1)}
        for kind, seconds in sorted(took.items())
    }


def quantiles(seconds: list[float]) -> dict[str, float]:
    """Median, 99th percentile and longest; nothing of none."""
    ordered = sorted(seconds)
    shares = {"p50": 0.5, "p99": 0.99, "max": 1.0} if ordered else {}
    return {name: round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2) for name, share in shares.items()}
