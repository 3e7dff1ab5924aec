"""Holds what clients were told against what stands in the log. Pure: it reads no topic and asks no service.

Every answer is recomputed (`jobs.py`), every final judged, every failed shard followed to its dead letter. What is not as
the promise has it becomes a violation, named after the invariant that it breaks:

lost: accepted, and no final though nothing is open any more. unfinished: no final, and something is still open.
duplicate-final: more than one for a version. wrong: a final that says something else than the recomputed answer, or than
its gateway. ghost: a final of a job that nobody submitted. dead-letter-missing: a failed shard without the letter that its
final names. executions: a shard ran more often than its attempts and the faults explain. reader: a reader beside the run
saw other finals than one from the start. refused, forgotten: a gateway's answer that a right submission must not get.
late: a shard ran long after its version's final: a group has lost what it had committed. unavailable: a client had to ask
for its 202 for longer than any fault lasts. slow: a version took longer to its final than its work and any fault do.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaos.jobs import Answer
from chaos.ledger import Told, Version
from chaos.records import Final, Letter, Line, Place

MAX_ATTEMPTS = 4
ACCEPTED_WITHIN_S = 60.0
ENDED_WITHIN_S = 120.0
LATE_AFTER_S = 60.0
_BEGINNINGS = ("Opened", "Redriven")
_NOT_SEALED = "not-sealed"
Shard = tuple[str, str, int, int]
"""Job, submission, version, sequence number."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """A fault's time on the brokers' clock, and how many more executions of one shard it may cause."""

    began_ms: int
    ended_ms: int
    executions: int


@dataclass(frozen=True, slots=True)
class Violation:
    """What was broken, of which job (empty: of none), and how."""

    sort: str
    job_id: str
    text: str

    def __str__(self) -> str:
        return f"{self.sort}: {self.job_id} {self.text}" if self.job_id else f"{self.sort}: {self.text}"


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is known after a run. `told`: by label. `seen_beside`: finals that the concurrent reader got."""

    told: Mapping[str, Told]
    finals: Sequence[Final]
    seen_beside: Sequence[tuple[Place, str, int]]
    letters: Sequence[Letter]
    lines: Sequence[Line]
    disturbances: Sequence[Disturbance] = ()
    drained: bool = True


@dataclass(slots=True)
class ChaosResult:
    """Counts of the report, and every violation."""

    violations: list[Violation] = field(default_factory=list)
    jobs: int = 0
    shards: int = 0
    versions_checked: int = 0
    duplicates_folded: int = 0
    executions_max: int = 0
    executions_max_unfailed: int = 0
    """The same of the shards that no execution of failed: what at-least-once alone costs."""

    most_executed: Shard | None = None
    accepted_after_s: list[float] = field(default_factory=list)
    """From a client's first request to its 202, of every accepted job."""

    ended_after_s: list[float] = field(default_factory=list)
    """From the first record of a version to its final, by the brokers' clocks."""

    letters_unnamed: int = 0
    """Letters that no final names: written by a worker that was lost before its outcome, or of a job that ended early."""

    def count(self, sort: str) -> int:
        """Violations of one sort."""
        return sum(violation.sort == sort for violation in self.violations)


class _Log:
    """What job-events say, by job and by shard."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.opened: dict[tuple[str, str, int], Line] = {}
        self.labels: dict[str, str] = {}
        self.sealed: dict[tuple[str, str, int], int] = {}
        self.cancels: set[str] = set()
        self.executions: Counter[Shard] = Counter()
        self.failed: set[Shard] = set()
        self.last_ms: dict[Shard, int] = {}
        self.outcomes: Counter[Shard] = Counter()
        self.attempts: dict[Shard, int] = {}
        for line in lines:
            self._take(line)

    def _take(self, line: Line) -> None:
        owner = (line.job_id, line.submission, line.version)
        if line.sort in _BEGINNINGS:
            self.opened.setdefault(owner, line)
            self.labels.setdefault(line.job_id, line.label)
        elif line.sort == "Sealed" and line.shards is not None:
            self.sealed[owner] = line.shards
        elif line.sort == "Cancel":
            self.cancels.add(line.job_id)
        if line.failed_attempt is not None:
            self._ran((*owner, line.failed_attempt), line)
            self.failed.add((*owner, line.failed_attempt))
        for outcome in line.outcomes:
            shard = (*owner, outcome.seq)
            self._ran(shard, line)
            self.outcomes[shard] += 1
            if outcome.failed:
                self.failed.add(shard)
            self.attempts[shard] = max(self.attempts.get(shard, 0), outcome.attempts)

    def _ran(self, shard: Shard, line: Line) -> None:
        self.executions[shard] += 1
        self.last_ms[shard] = max(self.last_ms.get(shard, 0), line.at_ms)


def check(evidence: Evidence) -> ChaosResult:
    """Judge a whole run."""
    return _Checker(evidence).verdict


class _Checker:
    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence
        self._log = _Log(evidence.lines)
        self._letters = {letter.place: letter for letter in evidence.letters}
        self._finals: dict[Version, list[Final]] = defaultdict(list)
        for final in evidence.finals:
            self._finals[final.job_id, final.version].append(final)
        self._named: set[Place] = set()
        self.verdict = ChaosResult()
        self._check_finals()
        self._check_told()
        self._check_opened()
        self._check_executions()
        self._check_readers()
        self._count()

    def _add(self, sort: str, job_id: str, text: str) -> None:
        self.verdict.violations.append(Violation(sort, job_id, text))

    def _check_finals(self) -> None:
        for (job_id, version), finals in self._finals.items():
            if len(finals) > 1:
                places = ", ".join(f"{final.place.partition}/{final.place.offset} {final.state}" for final in finals)
                self._add("duplicate-final", job_id, f"version {version} has {len(finals)} finals: {places}")
            for final in finals:
                self._judge(final)
            if version > 1 and (job_id, version - 1) not in self._finals:
                self._add("wrong", job_id, f"version {version} has a final, version {version - 1} has none")

    def _judge(self, final: Final) -> None:
        self.verdict.versions_checked += 1
        owner = (final.job_id, str(final.document["submission"]), final.version)
        told, opened = self._evidence.told.get(self._log.labels.get(final.job_id, "")), self._log.opened.get(owner)
        if told is None or opened is None:
            self._add("ghost", final.job_id, f"version {final.version} ended as {final.state}, and nobody opened it")
            return
        took_s = (final.at_ms - opened.at_ms) / 1000
        self.verdict.ended_after_s.append(took_s)
        if took_s > ENDED_WITHIN_S:
            self._add("slow", final.job_id, f"{told.label} {told.job.name} version {final.version} took {took_s:.0f} s")
        for complaint in (*self._end_complaints(told, final), *self._identity_complaints(final, owner)):
            self._add("wrong", final.job_id, f"{told.label} {told.job.name} version {final.version}: {complaint}")
        for complaint in self._letter_complaints(told.job.answer, final):
            self._add("dead-letter-missing", final.job_id, f"{told.label} {told.job.name}: {complaint}")

    def _end_complaints(self, told: Told, final: Final) -> list[str]:
        answer, accepted = told.job.answer, (final.job_id, final.version) in told.accepted
        reason = final.document["reason"]
        if final.state == "cancelled":
            asked = told.cancelled and final.job_id in self._log.cancels
            return [] if asked else ["it was cancelled, and nobody asked for that"]
        if final.state == "failed" and reason == _NOT_SEALED:
            return ["a gateway accepted it, and it ended as not sealed"] if accepted else []
        if final.state != answer.state or (answer.reason and reason != answer.reason):
            return [f"it ended as {final.state} ({reason}: {final.document['error']}), not as {answer.state}"]
        return [*_result_complaints(answer, final), *_gap_complaints(answer, final)]

    def _identity_complaints(self, final: Final, owner: tuple[str, str, int]) -> list[str]:
        sealed, total = self._log.sealed.get(owner), final.document["total"]
        if final.state in ("succeeded", "partial") and sealed is None:
            return ["it has a result and was never sealed"]
        if sealed is not None and total is not None and sealed != total:
            return [f"its final speaks of {total} shards, its seal of {sealed}"]
        return []

    def _letter_complaints(self, answer: Answer, final: Final) -> list[str]:
        found = []
        for error in final.document["errors"]:
            seq, row, address = error["seq"], error.get("row"), error["dead_letter"]
            letter = self._letters.get(Place(*address)) if address else None
            what = f"shard {seq}" if row is None else f"row {row} of shard {seq}"
            if letter is None:
                found.append(f"{what} failed ({error['reason']}), and there is no dead letter at {address}")
                continue
            self._named.add(letter.place)
            if (letter.job_id, letter.seq, letter.row) != (final.job_id, seq, row):
                found.append(
                    f"the dead letter at {address} is of job {letter.job_id}, shard {letter.seq}, not of {what}"
                )
            elif row is None and seq in answer.failed and letter.payload != answer.failed[seq]:
                found.append(f"the dead letter at {address} does not hold the payload of {what}")
        return found

    def _check_told(self) -> None:
        for told in self._evidence.told.values():
            for version in told.accepted:
                if version not in self._finals:
                    sort = "lost" if self._evidence.drained else "unfinished"
                    self._add(
                        sort, version[0], f"{told.label} {told.job.name}: accepted as version {version[1]}, no final"
                    )
            if told.accepted:
                waited_s = min(told.accepted.values()) - told.began_s
                self.verdict.accepted_after_s.append(waited_s)
                if waited_s > ACCEPTED_WITHIN_S:
                    self._add("unavailable", "", f"{told.label} {told.job.name} was accepted after {waited_s:.0f} s")
            if told.refused:
                self._add("refused", "", f"{told.label} {told.job.name}: {told.refused}")
            for text in told.forgotten:
                self._add("forgotten", "", f"{told.label} {told.job.name}: {text}")
            if told.key is not None and not told.accepted and not told.refused:
                self._add("unfinished", "", f"{told.label} {told.job.name} was never accepted: {told.answers[-3:]}")
            self._check_end(told)
            self._check_shown(told)

    def _check_shown(self, told: Told) -> None:
        """When all is quiet every gateway shows the newest version as it ended."""
        job_id = next(iter(told.accepted), ("", 0))[0]
        finals = {version: finals[0] for (job, version), finals in self._finals.items() if job == job_id}
        for port, state, version in told.shown if finals else ():
            newest = max(finals)
            if (state, version) != (finals[newest].state, newest):
                text = f"gateway {port} shows version {version} as {state}; version {newest} is {finals[newest].state}"
                self._add("wrong", job_id, f"{told.label}: {text}")

    def _check_end(self, told: Told) -> None:
        if told.ended is None:
            return
        state, version, digest = told.ended
        for job_id in {job_id for job_id, _ in told.accepted}:
            for final in self._finals.get((job_id, version), [])[:1]:
                if state != final.state:
                    self._add("wrong", job_id, f"{told.label}: a gateway showed {state}, its final says {final.state}")
                elif digest is not None and digest != final.digest:
                    self._add("wrong", job_id, f"{told.label}: a gateway gave another result than its final's")

    def _check_opened(self) -> None:
        ended = {job_id for job_id, _ in self._finals}
        accepted = {job_id for told in self._evidence.told.values() for job_id, _ in told.accepted}
        for job_id, label in self._log.labels.items():
            if job_id not in ended and job_id not in accepted:
                self._add("unfinished", job_id, f"{label} was opened, and no version of it has ended")

    def _check_executions(self) -> None:
        for shard, executions in self._log.executions.items():
            job_id, _, version, seq = shard
            allowed = self._allowed(shard)
            if executions > allowed:
                self._add(
                    "executions", job_id, f"version {version} shard {seq} ran {executions} times, allowed {allowed}"
                )
            finals = self._finals.get((job_id, version))
            late_s = (self._log.last_ms[shard] - finals[0].at_ms) / 1000 if finals else 0.0
            if late_s > LATE_AFTER_S:
                self._add("late", job_id, f"version {version} shard {seq} ran {late_s:.0f} s after the final")
            if self._log.attempts.get(shard, 0) > MAX_ATTEMPTS:
                self._add("executions", job_id, f"shard {seq} was charged with {self._log.attempts[shard]} attempts")

    def _allowed(self, shard: Shard) -> int:
        """Executions that the attempts and the faults until the last of them explain."""
        job_id, submission, version, _ = shard
        opened = self._log.opened.get((job_id, submission, version))
        finals = self._finals.get((job_id, version))
        began_ms = opened.at_ms if opened else 0
        ended_ms = max(finals[0].at_ms, self._log.last_ms[shard]) if finals else began_ms + 10**9
        return MAX_ATTEMPTS + sum(
            disturbance.executions
            for disturbance in self._evidence.disturbances
            if disturbance.began_ms <= ended_ms and disturbance.ended_ms >= began_ms
        )

    def _check_readers(self) -> None:
        start = {(final.place, final.job_id, final.version) for final in self._evidence.finals}
        beside = Counter(self._evidence.seen_beside)
        for place, job_id, version in start - set(beside):
            self._add("reader", job_id, f"version {version} at {place}: the concurrent reader never got it")
        for place, job_id, version in set(beside) - start:
            self._add("reader", job_id, f"version {version} at {place}: only the concurrent reader got it")
        for (place, job_id, version), times in beside.items():
            if times > 1:
                self._add("reader", job_id, f"version {version} at {place}: the concurrent reader got it {times} times")

    def _count(self) -> None:
        verdict = self.verdict
        verdict.jobs = len(self._log.labels)
        verdict.shards = len(self._log.outcomes)
        verdict.duplicates_folded = sum(count - 1 for count in self._log.outcomes.values())
        executions = self._log.executions
        verdict.most_executed = max(executions, key=executions.__getitem__, default=None)
        verdict.executions_max = max(executions.values(), default=0)
        unfailed = (count for shard, count in executions.items() if shard not in self._log.failed)
        verdict.executions_max_unfailed = max(unfailed, default=0)
        verdict.letters_unnamed = len(self._letters.keys() - self._named)


def _result_complaints(answer: Answer, final: Final) -> list[str]:
    result: Mapping[str, Any] | None = final.document["result"]
    if answer.state not in ("succeeded", "partial"):
        return [] if result is None and not final.value else [f"it has {len(final.value)} bytes of result"]
    if result is None or result["size_bytes"] != len(final.value):
        return [f"its final names the result {result}; there are {len(final.value)} bytes"]
    if result.get("digest") and result["digest"] != f"sha256:{final.digest}":
        return ["the segments do not have the digest that the final names"]
    try:
        complaint = answer.wrong(final.value)
    except Exception as error:  # a result that cannot even be read
        complaint = f"the result cannot be read: {error!r}"
    return [complaint] if complaint else []


def _gap_complaints(answer: Answer, final: Final) -> list[str]:
    if answer.state == "failed":
        return [] if final.document["errors"] else ["no failed shard is named"]
    gaps = {seq for first, last in final.document["gaps"] for seq in range(first, last + 1)}
    named = {error["seq"] for error in final.document["errors"] if error.get("row") is None}
    rows = {error["row"] for error in final.document["errors"] if error.get("row") is not None}
    found = []
    if gaps != set(answer.failed) or named != gaps:
        found.append(f"gaps are {sorted(gaps)}, named {sorted(named)}; {sorted(answer.failed)} must fail")
    if rows != answer.bad_rows:
        found.append(f"bad rows are {sorted(rows)}, not {sorted(answer.bad_rows)}")
    return found
