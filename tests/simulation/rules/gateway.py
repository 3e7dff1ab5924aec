"""A gateway that sends one submission, record by record, and may fail between any two."""

import random
from dataclasses import dataclass

from regather.core.model import (
    Abandoned,
    Cancel,
    Identity,
    JobId,
    OnError,
    Opened,
    Outcome,
    Outcomes,
    Redriven,
    Sealed,
    Shard,
    SubmissionId,
    Uploading,
)
from regather.core.seq_ranges import numbers
from simulation.oracle import Chain
from simulation.rules.model import SILENCE_MS, Job, Model

SMALL_SHARDS = 2


@dataclass(slots=True)
class Submission:
    """One upload. `at` counts the steps done: opened, each shard, the seal."""

    model: Model
    job: Job
    owner: Identity
    at: int = 0
    over: bool = False

    def step(self) -> None:
        """Send the next record; it may get lost, and then the submission is given up, or its process is gone."""
        model, job = self.model, self.job
        roll = model.chance.random()
        if roll < 0.03:
            self._give_up()
            return
        if self.at == 0:
            opened = Opened(
                self.owner, "kind", b"{}", "", job.deadline_ms, job.on_error,
                chained=job.chained, max_failed=job.max_failed,
            )  # fmt: skip
            model.jobs[self.owner] = job
            model.append(opened)
        elif self.at <= len(job.destinies):
            send_shard(model, job, self.owner, self.at - 1)
        else:
            model.append(Sealed(self.owner, len(job.destinies), 0, ""))
            model.sealed.append(self.owner)
            self.over = True
        self.at += 1
        if roll > 0.95 and not self.over and self.at > 1:
            model.append(Uploading(self.owner, self.at))
        if model.strays is not None and not (self.over or job.chained) and model.strays.random() < 0.3:
            self._stray(model.strays)
        if roll > 0.99:  # what was sent is there twice
            model.faults["duplicate"] += 1
            model.append(model.events[-1].event)

    def cancel(self) -> None:
        """Somebody wants the job to end."""
        self.model.append(Cancel(self.owner))

    def _stray(self, strays: random.Random) -> None:
        """Write an outcome of a shard beyond the last one."""
        self.model.faults["stray-outcome"] += 1
        seq = len(self.job.destinies) + strays.randrange(2)
        self.model.append(Outcomes(self.owner, "stray", [Outcome(seq, 1, 1, 0, 1, output=b"stray")]))

    def _give_up(self) -> None:
        """Fail before the seal: with a word if the process lives on, else without."""
        self.over = True
        self.model.faults["submission-lost"] += 1
        if self.at and self.model.chance.random() < 0.5:
            self.model.append(Abandoned(self.owner, "the client went away"))


@dataclass(slots=True)
class Redrive:
    """A gateway that begins the next version of a job that has ended: `redriven`, the shards, the seal."""

    model: Model
    job: Job
    redriven: Redriven
    at: int = 0
    over: bool = False

    @property
    def owner(self) -> Identity:
        return self.redriven.owner

    def step(self) -> None:
        """Send the next record, unless another redrive of the same version came first in log order."""
        model, owner, seqs = self.model, self.owner, list(numbers(self.redriven.seqs))
        if model.chance.random() < 0.03:
            self.over = True
            model.faults["redrive-lost"] += 1
        elif self.at == 0:
            model.jobs[owner] = self.job
            model.append(self.redriven)
            begun = Chain(owner.job_id, SILENCE_MS).read(model.log()).accounts
            self.over = begun[-1].redriven is not self.redriven
        elif self.at <= len(seqs):
            send_shard(model, self.job, owner, seqs[self.at - 1])
        else:
            model.append(Sealed(owner, len(self.job.destinies), 0, ""))
            model.sealed.append(owner)
            self.over = True
        self.at += 1

    def cancel(self) -> None:
        """Somebody wants the job to end."""
        self.model.append(Cancel(self.owner))


def send_shard(model: Model, job: Job, owner: Identity, seq: int) -> None:
    """Write one shard of a job, now and then twice."""
    model.destinies[owner, seq] = job.destinies[seq]
    partition = 0 if seq < SMALL_SHARDS else 1
    skip = job.on_error is OnError.SKIP
    shard = Shard(owner, seq, "kind", b"{}", b"%d" % seq, chained=job.chained, skip=skip)
    model.shards[partition].append(shard)
    if model.chance.random() < 0.02:
        model.faults["duplicate"] += 1
        model.shards[partition].append(shard)


def identity(job: Job, submission: int, version: int = 1) -> Identity:
    """Return the identity of a submission; the same job id for each one of the job."""
    return Identity(JobId(f"job-{job.number}"), SubmissionId(f"{submission:04x}"), version)
