"""Many seeds on all cores, summed up in one document; or one seed, told as a trace."""

import gc
import itertools
import multiprocessing
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from simulation import loops, trace
from simulation.invariants import NAMES, Invariants
from simulation.rules.run import Run as RulesRun

_CHUNK = {"loops": 8, "rules": 500}
_MOST_SHOWN = 20
_LONGEST_LINE = 600


@dataclass
class Tally:
    """Sums over seeds."""

    seeds: int = 0
    crashes: int = 0
    steps: int = 0
    virtual_s: float = 0.0
    longest_drain_s: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    checked: Counter[str] = field(default_factory=Counter)
    violated: Counter[str] = field(default_factory=Counter)
    failing: dict[int, list[str]] = field(default_factory=dict)

    def add(self, other: "Tally") -> None:
        self.seeds += other.seeds
        self.crashes += other.crashes
        self.steps += other.steps
        self.virtual_s += other.virtual_s
        self.longest_drain_s = max(self.longest_drain_s, other.longest_drain_s)
        self.faults += other.faults
        self.checked += other.checked
        self.violated += other.violated
        self.failing |= other.failing


def run_seeds(level: str, seeds: Sequence[int]) -> Tally:
    """Run some seeds here, one after the other."""
    trace.silence()
    gc.disable()  # when it runs must not depend on what ran before; and it takes a tenth of the time
    tally = Tally()
    for seed in seeds:
        tally.add(run_seed(level, seed))
        if level == "loops":
            gc.collect()
    gc.collect()
    return tally


def run_seed(level: str, seed: int) -> Tally:
    """Run one seed."""
    try:
        return _run_rules(seed) if level == "rules" else _run_loops(seed)
    except Exception as error:  # a fault of the simulation itself, which must not hide behind a green run
        lines = traceback.format_exception(error)
        return Tally(seeds=1, violated=Counter({"HARNESS": 1}), failing={seed: ["HARNESS " + "".join(lines)[-1500:]]})


def _run_loops(seed: int) -> Tally:
    outcome = loops.Run(seed).go()
    found = outcome.invariants
    return Tally(
        1,
        outcome.crashes,
        outcome.steps,
        outcome.virtual_s,
        outcome.drain_s,
        Counter(outcome.history.faults),
        Counter(found.checked),
        found.violated,
        _failing(seed, found),
    )


def _run_rules(seed: int) -> Tally:
    outcome = RulesRun(seed).go()
    found = outcome.invariants
    return Tally(
        1,
        outcome.crashes,
        outcome.steps,
        faults=outcome.faults,
        checked=found.checked,
        violated=found.violated,
        failing=_failing(seed, found),
    )


def _failing(seed: int, found: Invariants) -> dict[int, list[str]]:
    shown = [f"{name} {what}"[:_LONGEST_LINE] for name, what in found.violations[:3]]
    return {seed: shown} if shown else {}


def run_many(level: str, seeds: range, processes: int, *, until_failure: bool = False) -> tuple[Tally, float]:
    """Run seeds on so many cores, or only until one fails; the sums and the seconds that it took."""
    started_s = time.monotonic()
    total = Tally()
    chunks = [(level, list(chunk)) for chunk in _chunks(seeds, _CHUNK[level])]
    if processes == 1:
        _add_up(total, map(_run_chunk, chunks), until_failure=until_failure)
    else:
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            _add_up(total, pool.imap(_run_chunk, chunks), until_failure=until_failure)
    return total, time.monotonic() - started_s


def _add_up(total: Tally, tallies: Iterable[Tally], *, until_failure: bool) -> None:
    for tally in tallies:
        total.add(tally)
        if until_failure and total.failing:
            return


def _run_chunk(chunk: tuple[str, list[int]]) -> Tally:
    return run_seeds(*chunk)


def _chunks(seeds: range, size: int) -> Iterator[Sequence[int]]:
    rest = iter(seeds)
    while chunk := list(itertools.islice(rest, size)):
        yield chunk


def document(level: str, tally: Tally, seconds: float) -> dict[str, Any]:
    """What `make simulate` prints."""
    names = [name for name in (*NAMES, "HARNESS") if tally.checked[name] or tally.violated[name]]
    return {
        "level": level,
        "seeds": tally.seeds,
        "crashes": tally.crashes,
        "faults": dict(sorted(tally.faults.items())),
        "invariants": {name: {"checked": tally.checked[name], "violated": tally.violated[name]} for name in names},
        "failing_seeds": sorted(tally.failing),
        "violations": {str(seed): tally.failing[seed] for seed in sorted(tally.failing)[:_MOST_SHOWN]},
        "steps": tally.steps,
        "virtual_hours": round(tally.virtual_s / 3600, 2),
        "longest_drain_s": round(tally.longest_drain_s, 1),
        "seconds": round(seconds, 1),
        "seeds_per_second": round(tally.seeds / seconds, 2) if seconds else 0.0,
        "ok": not tally.failing and not tally.violated and tally.seeds > 0,
    }


def replay(level: str, seed: int) -> Iterator[str]:
    """One seed as a trace; its last lines say what was violated."""
    return _replay_rules(seed) if level == "rules" else _replay_loops(seed)


def _replay_rules(seed: int) -> Iterator[str]:
    run = RulesRun(seed, traced=True)
    outcome = run.go()
    yield from (f"plan: {submission.owner} {submission.job}" for submission in run.submissions)
    yield from run.model.trace or ()
    yield f"faults: {dict(sorted(outcome.faults.items()))}"
    yield from (f"VIOLATED {name}: {what}" for name, what in outcome.invariants.violations)
    yield f"seed {seed}: {outcome.steps} steps"


def _replay_loops(seed: int) -> Iterator[str]:
    run = loops.Run(seed)
    trace.listen(run.history)
    outcome = run.go()
    yield from (f"plan: {plan}" for plan in run.plans)
    yield f"faults at the beginning: {run.profile}; nemesis: {run.nemesis.sorts}"
    yield from trace.lines(run.history, run.broker.logs)
    yield f"faults: {dict(sorted(outcome.history.faults.items()))}"
    yield from (f"VIOLATED {name}: {what}" for name, what in outcome.invariants.violations)
    yield f"seed {seed}: {outcome.steps} steps, {outcome.virtual_s:.1f} virtual seconds, digest {outcome.digest}"
