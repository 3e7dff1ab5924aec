"""What is checked when a run has ended: every job, every promise, every letter, every execution."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from regather.core.model import AttemptError, Identity, JobId, JobState, Outcomes, Reason
from regather.core.partition_fold import FoldPolicy
from regather.core.status import JobStatus, ShardError
from regather.testing.simulation.logs import Logs
from regather.transport.base import Record, TopicPartition
from regather.wire.identity import IDENTITY_BYTES, required, unpack_identity
from simulation.drops import check_drops
from simulation.installation import Executions
from simulation.invariants import Invariants
from simulation.kinds import Row, decode_rows, merged, shard_answer
from simulation.ledger import Final, Ledger, label_of
from simulation.oracle import Account, Chain, End
from simulation.workload import JobPlan, Promise


@dataclass
class RunCheck:
    """Everything that the end of a run is judged by."""

    invariants: Invariants
    ledger: Ledger
    logs: Logs
    plans: Mapping[str, JobPlan]
    executions: Executions
    heartbeat_timeout_ms: int
    merges_get_lost: bool
    events_passed: Mapping[int, Sequence[tuple[float, int]]]
    """Of each partition of job-events when the group's offset went on, and where to."""
    named_alone: AbstractSet[tuple[str, Identity, int, int]]
    most_executions: int
    """Of one attempt of one shard: one, and one more for whatever may have interrupted it."""

    def judge(self, promises: Sequence[Promise], concurrent: Sequence[Record]) -> None:
        """Check all that can be checked at the end."""
        self._began = set(self.executions.began)
        self._check_readers(concurrent)
        chains = {job_id: self._chain(job_id) for job_id in self.ledger.opened}
        for chain in chains.values():
            self._check_versions(chain)
        for promise in promises:
            finals = self.ledger.finals.get((promise.owner.job_id, promise.owner.version), [])
            what = f"{promise.plan.label} was promised as {promise.owner}"
            self.invariants.check("I1", finals, f"{what} and has no final")
            unsealed = any(final.status.reason is Reason.NOT_SEALED for final in finals)
            self.invariants.check("I1", not unsealed, f"{what}, and its upload was given up")
        for (job_id, version), finals in self.ledger.finals.items():
            self._check_final(finals[0], len(finals), chains.get(job_id), version)
        self._check_views()
        self._check_charges()
        self._check_executions()
        self.invariants.check("VIEW", not self.ledger.ahead, *self.ledger.ahead[:3])
        for events in self.ledger.events.values():
            policy = FoldPolicy(self.heartbeat_timeout_ms)
            check_drops(self.invariants, policy, ((entry.log_ms, entry.event) for entry in events))
        for what in self.ledger.unreadable:
            self.invariants.check("I3", False, f"unreadable: {what}")

    def _check_readers(self, concurrent: Sequence[Record]) -> None:
        late = self.logs.committed(self.ledger.topics.results)
        seen = sorted((record.partition, record.offset) for record in concurrent)
        self.invariants.check(
            "I1",
            seen == sorted((record.partition, record.offset) for record in late),
            f"a reader from the start sees {len(late)} finals, one that was there saw {len(seen)}",
        )

    def _chain(self, job_id: JobId) -> Chain:
        events = self.ledger.events[self.ledger.opened[job_id][0].partition]
        return Chain(job_id, self.heartbeat_timeout_ms).read((entry.log_ms, entry.event) for entry in events)

    def _check_versions(self, chain: Chain) -> None:
        """Each version that was begun has a final, and its owner is whose it says."""
        for account in chain.accounts:
            owner, label = account.owner, account.order.label
            finals = self.ledger.finals.get((owner.job_id, owner.version), [])
            if self.invariants.check("I1", len(finals) == 1, f"{label} {owner} has {len(finals)} finals"):
                found = finals[0].status.owner
                self.invariants.check("I1", found == owner, f"{label}: {owner} owns it, not {found}")
                self._check_passed(account, finals[0])

    def _check_passed(self, account: Account, final: Final) -> None:
        """The group's offset passed what began this version only when its final was there, or all of it was saved."""
        owner, began = account.owner, account.redriven or account.order
        entry = next(entry for entry in self.ledger.opened[owner.job_id] if entry.event is began)
        passed = self.events_passed.get(entry.partition, ())
        passed_s = next((at_s for at_s, offset in passed if offset > entry.offset), None)
        if passed_s is not None and owner not in self.ledger.saved_to:
            done = final.seen_s <= passed_s
            self.invariants.check(
                "I6", done, f"job-events-{entry.partition}@{entry.offset} was passed, {owner} was open"
            )

    def _check_final(self, final: Final, count: int, chain: Chain | None, version: int) -> None:
        status = final.status
        self.invariants.check("I1", count == 1, f"{status.label} {status.owner} has {count} finals")
        account = chain.of(version) if chain is not None else None
        if self.invariants.check("I3", account, f"a final for {status.owner}, which nobody opened") and account:
            self._check_end(final, account, self.plans[account.order.label])

    def _check_end(self, final: Final, account: Account, plan: JobPlan) -> None:
        status = final.status
        end = (status.state, status.reason)
        allowed = self._allowed(account, plan)
        label = f"{plan.label} {status.owner}"
        right = self.invariants.check("I2", end in allowed, label, "ended as", end, status.error, "not one of", allowed)
        if status.state not in (JobState.SUCCEEDED, JobState.PARTIAL):
            self.invariants.check("I3", not final.record.value and status.result is None, f"{label} has a result")
        elif right:
            self._check_result(final, account, plan, label)
        self._check_letters(status, account, plan, label)

    def _allowed(self, account: Account, plan: JobPlan) -> set[End]:
        """The ends that are right; a merge may spoil one that is complete."""
        ends = account.ends()
        done = {(JobState.SUCCEEDED, None), (JobState.PARTIAL, None)}
        if plan.kind != "merged" or not ends & done:
            return ends
        if plan.merge == "raises":
            return ends - done | {(JobState.FAILED, Reason.MERGE_FAILED)}
        if plan.merge == "deadly":
            return ends - done | {(JobState.FAILED, Reason.INTERNAL)}
        return ends | ({(JobState.FAILED, Reason.MERGE_FAILED)} if self.merges_get_lost else set())

    def _check_result(self, final: Final, account: Account, plan: JobPlan, label: str) -> None:
        status = final.status
        check = self.invariants.check
        check("I2", status.total == len(plan.shards), f"{label} has {status.total} shards of {len(plan.shards)}")
        gaps = sorted(seq for low, high in status.gaps for seq in range(low, high + 1))
        check("I4", gaps == account.failed, f"{label} names the gaps {gaps}; {account.failed} failed")
        check("VIEW", status.frontier == status.total, f"{label} ends with the frontier {status.frontier}")
        content = self._content(final, label)
        expected = right_result(plan, account)
        check("I2", content == expected, f"{label} has a wrong result: {content[:60]!r}, not {expected[:60]!r}")

    def _content(self, final: Final, label: str) -> bytes:
        address = final.status.result
        if address is None or not address.segments:
            return final.record.value or b""
        tp = TopicPartition(self.ledger.topics.segments, final.record.partition)
        parts = []
        for offset, size_bytes in address.segments:
            record = self.logs.committed_at(tp, offset)
            part = record.value or b"" if record is not None else b""
            self.invariants.check("I3", len(part) == size_bytes, f"{label} points at segment {offset}, not there")
            parts.append(part)
        content = b"".join(parts)
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        self.invariants.check("I3", digest == address.digest, f"{label} has segments of another digest")
        return content

    def _check_letters(self, status: JobStatus, account: Account, plan: JobPlan, label: str) -> None:
        for error in status.errors:
            outcome = account.outcome(error.seq)
            if not self.invariants.check("I4", outcome, f"{label} names shard {error.seq}, which has no outcome"):
                continue
            self.invariants.check(
                "I4", self._letter_is_there(status.owner, error), f"{label} has no letter for {error}"
            )
            rows = [row for row in plan.shards[error.seq] if error.row in (None, row.number)]
            guilty = any(fails(row, error.attempts - 1) for row in rows) or self._charged_as_lost(error, account)
            self.invariants.check("I4", guilty, f"{label} blames the innocent: {error}")
        if status.state in (JobState.SUCCEEDED, JobState.PARTIAL):
            named = Counter(error.seq for error in status.errors)
            bad = set(account.failed) | set(account.damaged)
            self.invariants.check("I4", set(named) == bad, f"{label} names {sorted(named)}; {sorted(bad)} failed")

    def _charged_as_lost(self, error: ShardError, account: Account) -> bool:
        """Whether attempts were spent on workers that were lost; each of them is checked for itself."""
        outcome = account.outcome(error.seq)
        failure = outcome.failure if outcome else None
        return failure is not None and any(one.reason is Reason.WORKER_LOST for one in failure.history)

    def _letter_is_there(self, owner: Identity, error: ShardError) -> bool:
        if error.dead_letter is None:
            return False
        partition, offset = error.dead_letter
        record = self.logs.committed_at(TopicPartition(self.ledger.topics.dead_letters, partition), offset)
        if record is None:
            return False
        headers = dict(record.headers)
        row = headers.get("row")
        same_row = (error.row is None) if row is None else error.row == int(row)
        whose = unpack_identity(required(headers, "rg")[:IDENTITY_BYTES])
        mine = (
            whose.submission == owner.submission and whose.version <= owner.version
        )  # an earlier version may have run it
        return whose.job_id == owner.job_id and mine and int(required(headers, "seq")) == error.seq and same_row

    def _check_views(self) -> None:
        newest: dict[JobId, JobStatus] = {}
        for job_id, version in sorted(self.ledger.finals):
            newest[job_id] = self.ledger.finals[job_id, version][0].status
        for job_id, status in newest.items():
            shown = self.ledger.shown(job_id)
            same = shown is not None and (shown.owner.version, shown.state) == (status.owner.version, status.state)
            told = None if shown is None else f"{shown.state} (version {shown.owner.version})"
            self.invariants.check(
                "VIEW", same, f"{status.label} {status.owner} is {status.state}; its last status {told}"
            )

    def _check_charges(self) -> None:
        for failed in self.ledger.attempts_failed:
            self._check_charge(failed.owner, failed.seq, failed.error)
        for events in self.ledger.events.values():
            for entry in events:
                if isinstance(entry.event, Outcomes):
                    for outcome in entry.event.outcomes:
                        if outcome.failure is not None:
                            self._check_history(entry.event.owner, outcome.seq, outcome.failure.history)

    def _check_history(self, owner: Identity, seq: int, history: Sequence[AttemptError]) -> None:
        numbers = [error.attempt for error in history]
        right = numbers == list(range(len(numbers))) and len(numbers) <= 4
        self.invariants.check("I5", right, f"shard {seq} of {owner} has the attempts {numbers}")
        for error in history:
            self._check_charge(owner, seq, error)

    def _check_charge(self, owner: Identity, seq: int, error: AttemptError) -> None:
        if error.reason is Reason.WORKER_LOST:  # the mark comes first: a worker may be lost before the shard has begun
            executed = (error.worker, owner, seq, error.attempt) in self.named_alone
        else:
            payload = self.ledger.payloads.get((owner, seq))
            executed = payload is not None and (error.worker, payload, error.attempt) in self._began
        self.invariants.check(
            "I5", executed, f"shard {seq} of {owner} was charged for attempt {error.attempt}, never begun: {error}"
        )

    def _check_executions(self) -> None:
        uploads = Counter(label_of(entry.event) for opened in self.ledger.opened.values() for entry in opened)
        counts = Counter((payload, attempt) for _, payload, attempt in self.executions.began)
        for (payload, attempt), count in counts.items():
            rows = decode_rows(payload)
            most = self.most_executions * uploads[rows[0].job]
            self.invariants.check("I5", count <= most, f"attempt {attempt} of rows {rows} ran {count} times")


def right_result(plan: JobPlan, account: Account) -> bytes:
    """Compute a result anew from what the client sent, without the shards and rows that failed."""
    failed, bad_rows = set(account.failed), {seq: account.first[seq].bad_rows for seq in account.damaged}
    outputs: list[bytes | None] = []
    carry = b""
    for seq, rows in enumerate(plan.shards):
        if seq in failed:
            outputs.append(None)
            continue
        bad = {row.row for row in bad_rows.get(seq, ())}
        output = shard_answer([row for row in rows if row.number not in bad], plan.pad)
        if plan.kind == "chained":
            output, carry = carry[:6] + b">" + output, hashlib.sha256(carry + output).hexdigest().encode()
        outputs.append(output)
    if plan.kind == "merged":
        return merged(outputs)
    return b"".join(output for output in outputs if output is not None)


def fails(row: Row, attempt: int) -> bool:
    """Whether this row spoils this attempt of its shard by itself."""
    return row.fate in ("bad", "perm") or (row.fate not in ("ok", "slow") and attempt < row.argument)
