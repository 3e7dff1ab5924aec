"""One partition as the services would have written it, folded by the aggregator's own rules, and its audit."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from regather.audit.dead_letter_index import DeadLetterIndex
from regather.audit.final_check import FinalCheck
from regather.audit.findings import AuditResult, AuditTally
from regather.audit.partition_audit import PartitionAudit, judge_missing
from regather.core.job_events import Assembled, InheritedLoaded
from regather.core.model import (
    AttemptError,
    BadRow,
    DeadLetterAddress,
    Event,
    Failure,
    Identity,
    Opened,
    Outcome,
    Outcomes,
    Reason,
    Redriven,
    Shard,
)
from regather.core.partition_fold import FoldPolicy, PartitionFold, reopenable
from regather.core.reassembly import Assemble, EmitFinal, Instruction, LoadInherited
from regather.core.redrive import VersionHistory
from regather.core.seq_ranges import ranges
from regather.core.status import JobStatus, ResultAddress
from regather.wire.documents import encode_final
from regather.wire.events import decode_event, encode_event
from regather.wire.identity import HEADER, pack_identity
from regather.wire.shards import dead_letter_headers

JOIN, MERGE, UNKNOWN = "join", "merge", "unknown"
PIECE_BYTES = 7


def joins(kind: str, _options: bytes) -> bool | None:
    return {JOIN: True, MERGE: False}.get(kind)


@dataclass
class Written:
    """A record; `after` is how many events stood in the log when a final was written."""

    headers: dict[str, bytes]
    value: bytes
    append_ms: int
    after: int = 0


@dataclass
class Installation:
    """What stands in the four topics. Tests change it before they audit it."""

    fold: PartitionFold = field(default_factory=lambda: PartitionFold(FoldPolicy()))
    events: list[Written] = field(default_factory=list)
    results: list[Written] = field(default_factory=list)
    segments: dict[int, Written] = field(default_factory=dict)
    letters: dict[DeadLetterAddress, dict[str, bytes]] = field(default_factory=dict)
    in_pieces: bool = False
    now_ms: int = 1_000

    def tell(self, event: Event) -> None:
        """Append an event and let the aggregator's rules do what they do."""
        headers, value = encode_event(event)
        self.events.append(Written(dict(headers), value, self.now_ms))
        instructions = self.fold.handle(event, offset=len(self.events) - 1, append_ms=self.now_ms)
        while instructions:
            instructions += self._carry_out(instructions.pop(0))

    def bury(self, owner: Identity, seq: int, row: int | None = None) -> DeadLetterAddress:
        """Write a dead letter; where it stands."""
        address = DeadLetterAddress(seq % 3, len(self.letters))
        error = AttemptError(0, Reason.RAISED, "boom", "w", 0, 1)
        headers = dead_letter_headers(
            Shard(owner, seq, JOIN, b"{}", b"payload"), Failure(Reason.RAISED, "boom", (error,)),
            topic="shards.small", partition=0, offset=0, worker="w", row=row,
        )  # fmt: skip
        self.letters[address] = dict(headers)
        return address

    def audit(
        self,
        *,
        eager: bool = False,
        begins_at: int = 0,
        begins_later_at: int = 0,
        results_begin: int = 0,
        now_ms: int | None = None,
    ) -> AuditTally:
        """Audit everything. `eager`: finals are read long before their events, as with clocks that differ.

        By the second reading the events begin at `begins_later_at`.
        """
        tally = AuditTally(limit=100)
        letters = DeadLetterIndex({})
        for address, headers in self.letters.items():
            letters.add(address.partition, address.offset, headers)
        audit = PartitionAudit(tally, letters, joins, begins_at=begins_at, results_begin=results_begin)
        late: list[Written] = []
        fed = begins_at
        for final in self.results[results_begin:]:
            while not eager and fed < final.after:
                self._feed(audit, fed)
                fed += 1
            begun = audit.final(final.headers, append_ms=final.append_ms)
            if begun is not None and not self._judge(audit, begun, final, may_wait=True):
                late.append(final)
        for number in range(fed, len(self.events)):
            self._feed(audit, number)
        if audit.read_again_from is not None:
            begins_at = max(begins_at, begins_later_at)
            audit.begin_again(begins_at)
            for event in self.events[max(begins_at, audit.read_again_from) :]:
                audit.event_again(event.headers, event.value, append_ms=event.append_ms)
        for final in late:
            self._judge(audit, audit.again(final.headers), final, may_wait=False)
        judge_missing(audit.missing_finals(), tally, grace_ms=1_000, now_ms=self.now_ms if now_ms is None else now_ms)
        return tally

    def _feed(self, audit: PartitionAudit, number: int) -> None:
        event = self.events[number]
        audit.event(event.headers, event.value, append_ms=event.append_ms)

    def _judge(self, audit: PartitionAudit, begun: FinalCheck | AuditResult, final: Written, *, may_wait: bool) -> bool:
        check = begun if isinstance(begun, FinalCheck) else None
        if check is not None:
            check.whole(final.value)
            for index, (offset, _) in enumerate(check.final.pieces):
                found = self.segments.get(offset)
                check.piece(index, found.headers if found else None, found.value if found else b"")
        verdict = begun.verdict() if isinstance(begun, FinalCheck) else begun
        if verdict.findings and may_wait:
            return False
        audit.count(check, verdict)
        return True

    def _carry_out(self, instruction: Instruction) -> Sequence[Instruction]:
        if isinstance(instruction, Assemble):
            job = instruction.job
            outputs = [output for output in job.outputs() if output is not None]
            result = b"".join(outputs) if job.opened.kind == JOIN else b"merged"
            return self.fold.advance(job, Assembled(result, "text/plain"))
        if isinstance(instruction, LoadInherited):
            return self.fold.advance(instruction.job, InheritedLoaded(self._base(instruction)))
        assert isinstance(instruction, EmitFinal)
        status = instruction.job.status()
        value = b""
        if status.state in ("succeeded", "partial"):
            status, value = self._stored(status, instruction.result)
        headers, _ = encode_final(status, b"", "text/plain")
        self.results.append(Written(dict(headers), value, self.now_ms, after=len(self.events)))
        again = status.state == "failed" and reopenable(status.reason)
        self.fold.final_seen(
            status.owner.job_id, status.owner.version, reopenable=again, submission=status.owner.submission
        )
        return []

    def _base(self, instruction: LoadInherited) -> Mapping[int, Outcome]:
        versions = VersionHistory(instruction.job.owner, keep_outputs=True)
        for event in self.events[instruction.first : instruction.end]:
            versions.apply(decode_event(event.headers.items(), event.value))
        return versions.outcomes

    def _stored(self, status: JobStatus, result: bytes) -> tuple[JobStatus, bytes]:
        address = ResultAddress(0, None, len(result), "text/plain")
        if not self.in_pieces or not result:
            return replace(status, result=address), result
        pieces = []
        for index, at in enumerate(range(0, len(result), PIECE_BYTES)):
            offset = 100 + len(self.segments)
            headers = {HEADER: pack_identity(status.owner), "segment": str(index).encode()}
            self.segments[offset] = Written(headers, result[at : at + PIECE_BYTES], self.now_ms)
            pieces.append((offset, len(self.segments[offset].value)))
        digest = f"sha256:{hashlib.sha256(result).hexdigest()}"
        return replace(status, result=replace(address, segments=tuple(pieces), digest=digest)), b""


def opened(owner: Identity, kind: str = JOIN, **others: Any) -> Opened:
    return replace(Opened(owner, kind, b"{}", "", 3_600_000), **others)


def done(owner: Identity, seq: int, output: bytes | None = None, attempts: int = 1) -> Outcomes:
    output = b"<%d>" % seq if output is None else output
    return Outcomes(owner, "w", [Outcome(seq, attempts, 4, 0, 1, output=output)])


def dead(owner: Identity, seq: int, letter: DeadLetterAddress | None) -> Outcomes:
    errors = tuple(AttemptError(n, Reason.RAISED, "boom", "w", 0, 1) for n in range(4))
    return Outcomes(owner, "w", [Outcome(seq, 4, 4, 0, 1, failure=Failure(Reason.RAISED, "boom", errors, letter))])


def damaged(owner: Identity, seq: int, rows: Sequence[tuple[int, DeadLetterAddress | None]]) -> Outcomes:
    bad = tuple(BadRow(row, Reason.PERMANENT, "bad", letter) for row, letter in rows)
    return Outcomes(owner, "w", [Outcome(seq, 4, 4, 0, 1, output=b"<%d>" % seq, bad_rows=bad)])


def redriven(first: Opened, version: int, seqs: Sequence[int], origin: int = 0) -> Redriven:
    again = replace(first, owner=first.owner._replace(version=version))
    return Redriven(again, ranges(sorted(seqs)), origin=origin, created_ms=1)


Change = Callable[[Installation], None]
