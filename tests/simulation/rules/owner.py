"""An owner of a partition, as simple code around the fold: fence, restore, fold, save, emit, read back, advance."""

from collections import Counter
from dataclasses import dataclass, field, replace

from regather.core.job_events import Assembled
from regather.core.model import JobId, Opened, Outcomes, Redriven, Tick
from regather.core.partition_fold import PartitionFold, reopenable
from regather.core.reassembly import Assemble, EmitFinal, Instruction, JobFold, LoadInherited, Release
from simulation.drops import base_of
from simulation.rules.model import POLICY, RETRY, Final, Model, Saved, Transaction

EVENT_BYTES = 100


@dataclass(slots=True, eq=False)
class Owner:
    """One owner in one process; it begins anew after whatever goes wrong with its producer."""

    model: Model
    name: str
    save_bytes: int = 10**9
    """A job is saved when a restart would read more of the log for it."""
    dropped: Counter[str] = field(default_factory=Counter)
    epoch: int = 0
    fold: PartitionFold = field(default_factory=lambda: PartitionFold(POLICY))
    next_offset: int = 0
    read_to: int = 0
    finals: list[int] = field(default_factory=list)
    """Offsets of the finals that were read since the restore: the first one is R."""
    begins: dict[JobId, int] = field(default_factory=dict)
    """Where the checkpoints of a job begin."""
    assembling: list[JobFold] = field(default_factory=list)
    loading: list[LoadInherited] = field(default_factory=list)
    pending: list[Final] = field(default_factory=list)
    releases: dict[str, Release] = field(default_factory=dict)
    awaited: set[tuple[str, int]] = field(default_factory=set)
    restarts: int = 0

    def take_over(self) -> None:
        """Fence the owner before, then restore from what it wrote."""
        model = self.model
        model.epoch += 1
        self.epoch = model.epoch
        for _, transaction in (*model.results, *model.checkpoints):
            transaction.open = False  # fencing ends it
        offset, results_from, checkpoints_from = model.committed_events
        self.fold = PartitionFold(POLICY, self.dropped)
        self.next_offset, self.read_to = offset, results_from
        self.finals, self.assembling, self.loading, self.pending = [], [], [], []
        self.releases, self.awaited, self.begins = {}, set(), {}
        self.read_back()
        if checkpoints_from is not None:
            self._restore(checkpoints_from)
        model.say(self.name, "owns job-events from", offset, "epoch", self.epoch)

    def _restore(self, checkpoints_from: int) -> None:
        model = self.model
        instructions: list[Instruction] = []
        for offset in range(checkpoints_from, model.visible_checkpoints()):
            saved, transaction = model.checkpoints[offset]
            if transaction.committed:
                instructions += self.fold.restore(saved.event, saved.mark)
                if isinstance(saved.event, Opened | Redriven):
                    self.begins[saved.event.owner.job_id] = offset
        self.fold.end_restore()
        self._carry_out(instructions)

    def read_back(self) -> bool:
        """Read finals that readers can see; whether there were any."""
        model, start = self.model, self.read_to
        end = model.visible()
        for offset in range(start, end):
            final, transaction = model.results[offset]
            if transaction.committed:
                owner = final.owner
                again = reopenable(final.reason)
                self.fold.final_seen(owner.job_id, owner.version, reopenable=again, submission=owner.submission)
                self.finals.append(offset)
                self.awaited.discard((owner.job_id, owner.version))
        self.read_to = max(start, end)
        return end > start

    def fold_next(self) -> bool:
        """Fold the next record."""
        model = self.model
        if self.next_offset >= len(model.events):
            return False
        entry = model.events[self.next_offset]
        instructions = self.fold.handle(
            entry.event, offset=self.next_offset, append_ms=entry.append_ms, size_bytes=EVENT_BYTES
        )
        self.next_offset += 1
        self._carry_out(instructions)
        return True

    def assemble(self) -> bool:
        """Let the join or merge of one job end, or the reading of what its base has left."""
        if self.loading:
            loading = self.loading.pop()
            if self.fold.is_open(loading.job):
                stretch = (entry.event for entry in self.model.events[loading.first : loading.end])
                self._carry_out(self.fold.advance(loading.job, base_of(loading.job.owner, stretch)))
            return True
        if not self.assembling:
            return False
        job = self.assembling.pop()
        if self.fold.is_open(job):
            result = b"".join(output for output in job.outputs() if output is not None)
            self._carry_out(self.fold.advance(job, Assembled(result, "")))
        return True

    def tick(self) -> None:
        """Let deadlines pass."""
        if self.fold.open_jobs:
            self.model.append(Tick())

    def save(self) -> bool:
        """Write the checkpoint of one job that keeps a restart reading; False if there is none."""
        jobs = [] if self.awaited else self.fold.unsaved_jobs(self.save_bytes)[:1]
        if not jobs:
            return False
        (job,) = jobs
        if self._fenced():
            return True
        model, log_bytes, mark, first = self.model, self.fold.log_bytes, job.mark(), len(self.model.checkpoints)
        events = list(job.pop_unsaved()) or [Outcomes(job.owner, "", [])]
        marks = [mark] * (len(events) - 1) + [replace(mark, next_offset=self.next_offset)]
        transaction = Transaction(self.epoch)
        model.checkpoints += [(Saved(event, m), transaction) for event, m in zip(events, marks, strict=True)]
        model.say(self.name, "saves", job.owner, "to", self.next_offset, len(events), "records")
        if self._end(transaction):
            begins_anew = job.saved_to is None
            self.fold.saved(job, self.next_offset, log_bytes)
            if begins_anew:
                self.begins[job.owner.job_id] = first
        else:
            self._begin_again()
        return True

    def emit(self) -> bool:
        """Write what has ended in one transaction, unless the one before was not read back; False if nothing is to do."""
        model = self.model
        if self.awaited or not (self.pending or self.releases):
            return False
        if self._fenced():
            return True
        transaction = Transaction(self.epoch)
        model.results += [(final, transaction) for final in self.pending]
        there = self._end(transaction)
        if there:
            self._now_visible()
        if transaction.open or not (there or self.pending):
            self._begin_again()  # no answer, or releases without a final were not found where they should be
            return True
        self.awaited = {(final.owner.job_id, final.owner.version) for final in self.pending}
        self.pending, self.releases = [], {}
        return True

    def miss(self) -> bool:
        """Begin anew where a committed final does not appear."""
        if not self.awaited or self.read_to < self.model.visible():
            return False
        self._begin_again()
        return True

    def commit(self) -> None:
        """Advance the group's offset: W and R."""
        model = self.model
        if model.group_owner is not self:
            return
        offset = self.fold.low_offset(self.next_offset)
        saved_to = model.saved_to()
        seen = {(final.owner.job_id, final.owner.version) for final in model.finals()}
        known: set[str] = set()
        for entry in model.events[:offset]:
            if type(entry.event) is Opened and entry.event.owner.job_id not in known:
                owner = entry.event.owner
                known.add(owner.job_id)
                done = (owner.job_id, owner.version) in seen or saved_to.get(owner, 0) >= offset
                model.invariants.check("I6", done, self.name, "committed", offset, "past the open job", owner)
        results_from = self.finals[0] if self.finals else model.committed_events[1]
        self.begins = {job_id: at for job_id, at in self.begins.items() if self.fold.is_saved(job_id)}
        model.committed_events = (offset, results_from, min(self.begins.values(), default=None))

    def _fenced(self) -> bool:
        """Whether a newer owner took over; then this one begins anew."""
        if self.epoch == self.model.epoch:
            return False
        self.model.faults["fenced"] += 1
        self._begin_again()
        return True

    def _end(self, transaction: Transaction) -> bool:
        """End a transaction; whether its records can be seen. One that stays open had no answer."""
        roll = self.model.chance.random()
        if roll < 0.05:
            self.model.faults["commit-lost"] += 1  # it stays open until somebody fences it
            return False
        transaction.open = False
        transaction.committed = roll >= 0.1
        if not transaction.committed:
            self.model.faults["commit-ignored"] += 1  # it says OK, and nothing is there
        return transaction.committed

    def _now_visible(self) -> None:
        model = self.model
        for final in self.pending:
            model.say("results", final)
            if final.state.ended:
                model.ended.add(final.owner)
        for release in self.releases.values():
            model.shards[RETRY].append(release.shard._replace(payload=b"1"))

    def _begin_again(self) -> None:
        self.restarts += 1
        self.take_over()

    def _carry_out(self, instructions: list[Instruction]) -> None:
        for instruction in instructions:
            if isinstance(instruction, Assemble):
                self.assembling.append(instruction.job)
            elif isinstance(instruction, LoadInherited):
                self.loading.append(instruction)
            elif isinstance(instruction, Release):
                self.releases[instruction.job.owner.job_id] = instruction
            else:
                self._plan(instruction)

    def _plan(self, instruction: EmitFinal) -> None:
        status = instruction.job.status()
        self.model.statuses.append(status)
        self.pending.append(Final(status.owner, status.state, status.reason, instruction.result, status))
