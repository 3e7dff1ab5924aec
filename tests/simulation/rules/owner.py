"""An owner of a partition, as simple code around the fold: fence, restore, fold, emit, read back, advance."""

from collections import Counter
from dataclasses import dataclass, field

from regather.core.model import Opened, Tick
from regather.core.partition_fold import PartitionFold, reopenable
from regather.core.reassembly import Assemble, Assembled, EmitFinal, Instruction, JobFold, Release
from simulation.rules.model import POLICY, RETRY, Final, Model, Transaction


@dataclass(slots=True, eq=False)
class Owner:
    """One owner in one process; it begins anew after whatever goes wrong with its producer."""

    model: Model
    name: str
    dropped: Counter[str] = field(default_factory=Counter)
    epoch: int = 0
    fold: PartitionFold = field(default_factory=lambda: PartitionFold(POLICY))
    next_offset: int = 0
    read_to: int = 0
    finals: list[int] = field(default_factory=list)
    """Offsets of the finals that were read since the restore: the first one is R."""
    assembling: list[JobFold] = field(default_factory=list)
    pending: list[Final] = field(default_factory=list)
    releases: dict[str, Release] = field(default_factory=dict)
    awaited: set[tuple[str, int]] = field(default_factory=set)
    restarts: int = 0

    def take_over(self) -> None:
        """Fence the owner before, then restore from what it wrote."""
        model = self.model
        model.epoch += 1
        self.epoch = model.epoch
        for _, transaction in model.results:
            if transaction.open:  # fencing ends it
                transaction.open = False
        offset, results_from = model.committed_events
        self.fold = PartitionFold(POLICY, self.dropped)
        self.next_offset, self.read_to = offset, results_from
        self.finals, self.assembling, self.pending, self.releases, self.awaited = [], [], [], {}, set()
        self.read_back()
        model.say(self.name, "owns job-events from", offset, "epoch", self.epoch)

    def read_back(self) -> bool:
        """Read finals that readers can see; whether there were any."""
        model, start = self.model, self.read_to
        end = model.visible()
        for offset in range(start, end):
            final, transaction = model.results[offset]
            if transaction.committed:
                owner = final.owner
                self.fold.final_seen(owner.job_id, owner.version, reopenable=reopenable(final.reason))
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
        instructions = self.fold.handle(entry.event, offset=self.next_offset, append_ms=entry.append_ms)
        self.next_offset += 1
        self._carry_out(instructions)
        return True

    def assemble(self) -> bool:
        """Let the join or merge of one job end."""
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

    def emit(self) -> bool:
        """Write what has ended in one transaction, unless the one before was not read back; False if nothing is to do."""
        model = self.model
        if self.awaited or not (self.pending or self.releases):
            return False
        if self.epoch != model.epoch:
            model.faults["fenced"] += 1
            self._begin_again()
            return True
        roll = model.chance.random()
        transaction = Transaction(self.epoch)
        model.results += [(final, transaction) for final in self.pending]
        if roll < 0.05:
            model.faults["commit-lost"] += 1  # it stays open until somebody fences it
            self._begin_again()
            return True
        transaction.open = False
        transaction.committed = roll >= 0.1
        if not transaction.committed:
            model.faults["commit-ignored"] += 1  # it says OK, and nothing is there
        elif self.pending or self.releases:
            self._now_visible()
        self.awaited = {(final.owner.job_id, final.owner.version) for final in self.pending}
        if not self.awaited and not transaction.committed:
            self._begin_again()  # releases without a final were not found where they should be
            return True
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
        seen = {(final.owner.job_id, final.owner.version) for final in model.finals()}
        known: set[str] = set()
        for entry in model.events[:offset]:
            if type(entry.event) is Opened and entry.event.owner.job_id not in known:
                owner = entry.event.owner
                known.add(owner.job_id)
                done = (owner.job_id, owner.version) in seen
                model.invariants.check("I6", done, self.name, "committed past the open job", owner)
        model.committed_events = (offset, self.finals[0] if self.finals else model.committed_events[1])

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
            elif isinstance(instruction, Release):
                self.releases[instruction.job.owner.job_id] = instruction
            else:
                self._plan(instruction)

    def _plan(self, instruction: EmitFinal) -> None:
        status = instruction.job.status()
        self.model.statuses.append(status)
        self.pending.append(Final(status.owner, status.state, status.reason, instruction.result, status))
