"""Checks one final against the log: its document, its bytes, its segments and its dead letters.

The caller passes the bytes piece by piece, and none of them is kept.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from regather.audit.dead_letter_index import DeadLetterIndex, DeadLetterState
from regather.audit.findings import AuditResult, Finding, Inconclusive, Violation
from regather.audit.version_log import Fingerprint, RowDeadLetter, Settled, VersionLog, length_of
from regather.core.errors import WireError
from regather.core.model import DeadLetterAddress, Identity, JobState, OnError, Reason
from regather.core.seq_ranges import ranges
from regather.core.status import MAX_ERRORS_SHOWN, JobStatus, ShardError
from regather.wire.documents import status_from_json
from regather.wire.identity import HEADER, HeaderMap, required, unpack_identity

_WHOLE = (JobState.SUCCEEDED, JobState.PARTIAL)


class Final:
    """A decoded record of results; raises WireError if it cannot be decoded."""

    def __init__(self, headers: HeaderMap) -> None:
        self.owner: Identity = unpack_identity(required(headers, HEADER))
        self.status: JobStatus = status_from_json(required(headers, "document"))
        self._told = {
            name: (headers.get(name) or b"").decode("utf-8", "replace") for name in ("job_id", "version", "state")
        }

    @property
    def contradictions(self) -> list[str]:
        """The names of the headers that contradict the document."""
        status, owner = self.status, self.status.owner
        wanted = {"job_id": owner.job_id, "version": str(owner.version), "state": status.state.value}
        wrong = [name for name, value in wanted.items() if self._told[name] != value]
        return wrong if self.owner == owner else [HEADER, *wrong]

    @property
    def pieces(self) -> Sequence[tuple[int, int]]:
        """Offset and length of the segments that hold the result; none if the final itself holds it."""
        return self.status.result.segments if self.status.result else ()


class JoinedContent:
    """Compares bytes, which come in any pieces, with the fingerprints of the expected outputs."""

    def __init__(self, outputs: Mapping[int, bytes]) -> None:
        self._expected = [(seq, outputs[seq]) for seq in sorted(outputs) if length_of(outputs[seq])]
        self._at = 0
        self._print = Fingerprint()
        self.wrong: tuple[int, bytes] | None = None
        """The first shard whose bytes differ, and the fingerprint of the bytes in its place."""

        self.surplus_bytes = 0

    def feed(self, data: bytes) -> None:
        """Compare the next bytes of the result."""
        view = memoryview(data)
        while view:
            if self._at == len(self._expected):
                self.surplus_bytes += len(view)
                return
            seq, wanted = self._expected[self._at]
            need = length_of(wanted) - self._print.length
            self._print.feed(view[:need])
            view = view[need:]
            if self._print.length == length_of(wanted):
                self._compare(seq, wanted)

    @property
    def missing_shards(self) -> list[int]:
        """Shards whose bytes are missing or incomplete."""
        return [seq for seq, _ in self._expected[self._at :]]

    def _compare(self, seq: int, wanted: bytes) -> None:
        found = self._print.value()
        if found != wanted and self.wrong is None:
            self.wrong = (seq, found)
        self._print = Fingerprint()
        self._at += 1


class FinalCheck:
    """The check of one final. Call whole(), and piece() for each segment if there are any, then verdict()."""

    def __init__(self, final: Final, log: VersionLog, dead_letters: DeadLetterIndex) -> None:
        self.final = final
        self.log = log
        self._dead_letters = dead_letters
        self._verdict = AuditResult()
        self._settled: Settled = log.settled(whole=final.status.state in _WHOLE)
        self._content = JoinedContent(self._settled.outputs) if log.joined else None
        self._digest = hashlib.sha256()
        self._size_bytes = 0
        self._broken = False

    def whole(self, value: bytes) -> None:
        """Check the final's own value."""
        if self.final.pieces and value:
            self._say(Violation.WRONG, f"the final lists segments, but also has {len(value)} bytes of its own")
        elif not self.final.pieces:
            self._take(value)

    def piece(self, index: int, headers: HeaderMap | None, value: bytes) -> None:
        """Check the record at the address of a segment. `headers` None: there is no record."""
        offset, size_bytes = self.final.pieces[index]
        wrong = _wrong_piece(self.final.owner, index, size_bytes, headers, value)
        if wrong:
            self._broken = True
            self._say(Violation.SEGMENTS_WRONG, f"segment {index} at offset {offset} {wrong}")
            return
        self._take(value)

    def pieces_gone(self) -> None:
        """Note that retention deleted the segments."""
        self._broken = True
        self._verdict.inconclusive.append(Inconclusive.SEGMENT_GONE)

    def verdict(self) -> AuditResult:
        """Return everything that is wrong or inconclusive."""
        status = self.final.status
        for name in self.final.contradictions:
            self._say(Violation.WRONG, f"its header {name!r} contradicts its document")
        if self.log.owner != status.owner:
            self._say(
                Violation.FOREIGN,
                f"it is of submission {status.owner.submission}; the job belongs to {self.log.owner.submission}",
            )
            return self._verdict
        if status.kind != self.log.opened.kind:
            self._say(Violation.WRONG, f"its kind is {status.kind}, that of the job is {self.log.opened.kind}")
        if status.state in _WHOLE:
            self._check_whole()
        else:
            self._check_early()
        self._check_errors()
        self._check_dead_letters()
        return self._verdict

    def _take(self, value: bytes) -> None:
        self._size_bytes += len(value)
        if self.final.pieces:
            self._digest.update(value)
        if self._content is not None:
            self._content.feed(value)

    def _check_whole(self) -> None:
        log, status, settled = self.log, self.final.status, self._settled
        if log.sealed is None:
            self._say(Violation.WRONG, "it has a result, but the job was never sealed")
            return
        for complaint in _whole_complaints(log, status, settled):
            self._say(Violation.WRONG, complaint)
        total = log.sealed.shards
        silent = [seq for seq in range(total) if seq not in settled.outputs and seq not in settled.failed]
        if silent:
            others = log.said_by_others(silent)
            detail = f"{len(silent)} shards have no outcome" + (" except another submission's" if others else "")
            self._say(Violation.FOREIGN if others else Violation.WRONG, f"{detail}: {_shown(silent)}")
        self._check_bytes(comparable=not silent)

    def _check_bytes(self, *, comparable: bool) -> None:
        result = self.final.status.result
        if result is None:
            self._say(Violation.WRONG, "it does not say where its result is")
            return
        if self._broken:
            return
        if result.size_bytes != self._size_bytes:
            where = Violation.SEGMENTS_WRONG if self.final.pieces else Violation.WRONG
            self._say(where, f"the result has {self._size_bytes} bytes, not {result.size_bytes}")
        if self.final.pieces and result.digest != f"sha256:{self._digest.hexdigest()}":
            self._say(Violation.SEGMENTS_WRONG, "the digest of the segments differs from the one in the final")
        if self.log.joined is None:
            self._verdict.inconclusive.append(Inconclusive.KIND_UNKNOWN)
        elif self._content is not None and comparable:
            self._check_content(self._content)

    def _check_content(self, content: JoinedContent) -> None:
        if content.wrong is not None:
            seq, found = content.wrong
            if self.log.is_foreign(seq, found):
                self._say(Violation.FOREIGN, f"the bytes of shard {seq} are another submission's")
            else:
                self._say(Violation.WRONG, f"the bytes of shard {seq} are not those of its outcome")
        elif content.surplus_bytes:
            self._say(Violation.WRONG, f"the result has {content.surplus_bytes} bytes more than all outputs together")
        elif content.missing_shards:
            self._say(Violation.WRONG, f"the result lacks the outputs of shards {_shown(content.missing_shards)}")

    def _check_early(self) -> None:
        log, status, settled = self.log, self.final.status, self._settled
        if status.result is not None or self._size_bytes or self.final.pieces:
            self._say(Violation.WRONG, f"a job that is {status.state} must not have a result, but this one has")
        if status.total is not None and (log.sealed is None or log.sealed.shards != status.total):
            self._say(Violation.WRONG, f"it says {status.total} shards, but no seal does")
        if status.done > len(settled.outputs):
            self._say(Violation.WRONG, f"it says {status.done} shards are done, the log has {len(settled.outputs)}")
        if status.failed > len(settled.failed):
            self._say(Violation.WRONG, f"it says {status.failed} shards failed, the log has {len(settled.failed)}")
        complaint = _unfounded(log, status, settled)
        if complaint:
            self._say(Violation.WRONG, complaint)

    def _check_errors(self) -> None:
        for error in self.final.status.errors:
            if not _is_told(error, self._settled):
                self._say(Violation.WRONG, f"it names an error of {_where(error.seq, error.row)} that no outcome has")
        unknown = [seq for seq in self._gaps() if seq not in self._settled.failed]
        if unknown:
            others = self.log.said_by_others(unknown)
            detail = f"it names gaps without a failed outcome of the job: {_shown(unknown)}"
            self._say(Violation.FOREIGN if others else Violation.WRONG, detail)

    def _check_dead_letters(self) -> None:
        for seq, row, address in sorted(set(self._named_dead_letters()), key=lambda named: (named[0], named[1] or 0)):
            what = _where(seq, row)
            if address is None:
                self._say(Violation.DEAD_LETTERS_MISSING, f"it names no dead letter for {what}")
                continue
            found = self._dead_letters.look(address, self.log.source_version(seq), seq, row)
            place = f"dead letter {address.partition}/{address.offset} of {what}"
            if found is DeadLetterState.GONE:
                self._verdict.inconclusive.append(Inconclusive.DEAD_LETTER_GONE)
            elif found is DeadLetterState.MISSING:
                self._say(Violation.DEAD_LETTERS_MISSING, f"{place} does not exist")
            elif found is DeadLetterState.ANOTHERS:
                self._say(Violation.DEAD_LETTERS_MISSING, f"{place} is of another shard or row")

    def _named_dead_letters(self) -> Iterator[tuple[int, int | None, DeadLetterAddress | None]]:
        status, settled = self.final.status, self._settled
        for seq in self._gaps():
            if seq in settled.failed:
                yield seq, None, settled.failed[seq]
        if status.state in _WHOLE:
            for seq, rows in settled.damaged.items():
                for bad in rows:
                    yield seq, bad.row, bad.dead_letter
        for error in status.errors:
            yield error.seq, error.row, DeadLetterAddress(*error.dead_letter) if error.dead_letter else None

    def _gaps(self) -> Iterator[int]:
        """Yield the shards that the final names as gaps, at most one more than failed: that proves one wrong."""
        named = (seq for first, last in self.final.status.gaps for seq in range(first, last + 1))
        return islice(named, len(self._settled.failed) + 1)

    def _say(self, violation: Violation, detail: str) -> None:
        owner = self.final.status.owner
        self._verdict.findings.append(Finding(violation, owner.job_id, owner.version, detail))


def _wrong_piece(owner: Identity, index: int, size_bytes: int, headers: HeaderMap | None, value: bytes) -> str | None:
    if headers is None:
        return "does not exist"
    try:
        found = unpack_identity(required(headers, HEADER))
    except WireError as error:
        return f"cannot be read: {error}"
    if found != owner:
        return "belongs to another job, submission or version"
    if headers.get("segment") != str(index).encode():
        return f"is segment {(headers.get('segment') or b'?').decode('utf-8', 'replace')} of its result"
    return None if len(value) == size_bytes else f"has {len(value)} bytes, not {size_bytes}"


def _whole_complaints(log: VersionLog, status: JobStatus, settled: Settled) -> Iterator[str]:
    sealed, opened = log.sealed, log.opened
    assert sealed is not None
    rows = sum(map(len, settled.damaged.values()))
    failed, lost = len(settled.failed), len(settled.failed) + len(settled.damaged)
    wanted: dict[str, Any] = {
        "total": sealed.shards,
        "size_bytes": sealed.size_bytes,
        "digest": sealed.digest,
        "done": len(settled.outputs),
        "failed": failed,
        "bad_rows": rows,
        "frontier": sealed.shards,
        "gaps": ranges(sorted(settled.failed)),
        "state": JobState.PARTIAL if lost else JobState.SUCCEEDED,
    }
    for name, value in wanted.items():
        found = getattr(status, name)
        if found != value:
            yield f"its {name} is {_short(found)}, by the log it is {_short(value)}"
    if len(status.errors) != min(MAX_ERRORS_SHOWN, failed + rows):
        yield f"it names {len(status.errors)} errors; there are {failed + rows}"
    if lost and not _may_skip(log, lost):
        yield f"{lost} shards failed or have bad rows, and the job allows fewer (on_error={opened.on_error})"


def _may_skip(log: VersionLog, lost: int) -> bool:
    opened = log.opened
    return opened.on_error is OnError.SKIP and not opened.chained and not _over_budget(log, lost)


def _over_budget(log: VersionLog, lost: int) -> bool:
    opened, total = log.opened, log.sealed.shards if log.sealed else 0
    if opened.max_failed is not None and lost > opened.max_failed:
        return True
    return opened.max_failed_pct is not None and total > 0 and lost * 100 > opened.max_failed_pct * total


def _unfounded(log: VersionLog, status: JobStatus, settled: Settled) -> str | None:
    """Return why the log contradicts the reason for an early end; None if it does not."""
    lost = len(settled.failed) + len(settled.damaged)
    checks: Mapping[Reason, Callable[[], str | None]] = {
        Reason.CANCELLED: lambda: None if log.cancelled else "nobody cancelled it",
        Reason.DEADLINE: lambda: None if status.updated_ms >= log.due_ms else "its deadline had not passed",
        Reason.SHARD_FAILED: lambda: None if lost else "no shard failed",
        Reason.TOO_MANY_FAILED: lambda: None if _over_budget(log, lost) else f"{lost} failed shards are not too many",
        Reason.MERGE_FAILED: lambda: None if log.sealed else "it was never sealed",
        Reason.RESULT_TOO_LARGE: lambda: None if log.sealed else "it was never sealed",
    }
    states = {Reason.CANCELLED: JobState.CANCELLED, Reason.DEADLINE: JobState.EXPIRED}
    if status.reason is None:
        return f"it is {status.state} and gives no reason"
    if status.state is not states.get(status.reason, JobState.FAILED):
        return f"its state {status.state} does not match its reason {status.reason}"
    unfounded = checks.get(status.reason, lambda: None)()
    return f"it is {status.state} for the reason {status.reason}, but {unfounded}" if unfounded else None


def _is_told(error: ShardError, settled: Settled) -> bool:
    """Whether an outcome has this error, with the same dead letter."""
    dead_letter = DeadLetterAddress(*error.dead_letter) if error.dead_letter else None
    if error.row is None:
        return error.seq in settled.failed and settled.failed[error.seq] == dead_letter
    return RowDeadLetter(error.row, dead_letter) in settled.damaged.get(error.seq, ())


def _where(seq: int, row: int | None) -> str:
    return f"shard {seq}" if row is None else f"row {row} of shard {seq}"


def _shown(numbers: Sequence[int]) -> str:
    parts = [str(first) if first == last else f"{first} to {last}" for first, last in ranges(sorted(numbers))]
    return ", ".join(parts[:5]) + (", ..." if len(parts) > 5 else "")


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
