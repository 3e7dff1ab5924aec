"""What is checked when a run of the rules has ended."""

from regather.core.model import Identity, JobId, JobState, Opened, Outcomes, Reason
from regather.core.status import JobStatus, ShardError, newer
from simulation.drops import check_drops
from simulation.oracle import Account, Chain
from simulation.rules.model import POLICY, SILENCE_MS, Fate, Final, Model


def judge(model: Model) -> None:
    """Check every job, every promise, every charge and every drop."""
    check = model.invariants.check
    by_key: dict[tuple[JobId, int], Final] = {}
    for final in model.finals():
        key = (final.owner.job_id, final.owner.version)
        check("I1", key not in by_key, "a second final for", key)
        by_key[key] = final
    job_ids = {entry.event.owner.job_id: None for entry in model.events if type(entry.event) is Opened}
    accounts: dict[tuple[JobId, int], Account] = {}
    for job_id in job_ids:
        for account in Chain(job_id, SILENCE_MS).read(model.log()).accounts:
            accounts[job_id, account.owner.version] = account
    for key, account in accounts.items():
        found = by_key.get(key)
        check("I1", found is not None and found.owner == account.owner, "no final of", account.owner, "but", found)
    for owner in model.sealed:
        check("I1", (owner.job_id, owner.version) in by_key, "no final of", owner, "which was promised")
    for key, final in by_key.items():
        opened = accounts.get(key)
        if check("I3", opened is not None, "a final of", final.owner, "which nobody opened") and opened is not None:
            _check_end(model, final, opened)
    _check_view(model, by_key)
    _check_charges(model)
    check_drops(model.invariants, POLICY, ((entry.append_ms, entry.event) for entry in model.events))


def _check_end(model: Model, final: Final, account: Account) -> None:
    job = model.jobs[final.owner]
    end, ends, failed = (final.state, final.reason), account.ends(), account.failed
    check = model.invariants.check
    check("I2", end in ends, final.owner, "ended as", end, "not one of", ends)
    if final.state in (JobState.SUCCEEDED, JobState.PARTIAL):
        seqs = [seq for seq in range(len(job.destinies)) if seq not in failed]
        right = b"".join(b"<%s %d>" % (final.owner.submission.encode(), seq) for seq in seqs)
        check("I2", final.result == right, final.owner, "has the result", final.result, "not", right)
        gaps = [seq for low, high in final.status.gaps for seq in range(low, high + 1)]
        check("I4", gaps == failed, final.owner, "names the gaps", gaps, "not", failed)
        check("I2", final.status.frontier == len(job.destinies), final.owner, "ends at", final.status.frontier)
    else:
        check("I3", not final.result, final.owner, "failed and has a result")
    for error in final.status.errors:
        check("I4", _has_letter(model, final.owner, error), final.owner, "has no letter for", error)
        guilty = job.destinies[error.seq].fate is not Fate.FINE or error.reason is Reason.WORKER_LOST
        check("I4", guilty, final.owner, "blames the innocent", error)


def _has_letter(model: Model, owner: Identity, error: ShardError) -> bool:
    """Whether the letter is there, written for this version or for an earlier one of the same submission."""
    if error.dead_letter is None:
        return False
    whose, seq, row = model.letters[error.dead_letter[1]]
    mine = (whose.job_id, whose.submission) == (owner.job_id, owner.submission) and whose.version <= owner.version
    return mine and (seq, row) == (error.seq, error.row)


def _check_view(model: Model, by_key: dict[tuple[JobId, int], Final]) -> None:
    """Whatever the order in which statuses reach a view, it shows the end."""
    statuses = [status for status in model.statuses if (status.owner.job_id, status.owner.version) in by_key]
    model.chance.shuffle(statuses)
    shown: dict[JobId, JobStatus] = {}
    for status in statuses:
        known = shown.get(status.owner.job_id)
        shown[status.owner.job_id] = newer(known, status)
    for job_id, status in shown.items():
        ended = status.state.ended
        model.invariants.check("VIEW", ended, job_id, "is shown as", status)


def _check_charges(model: Model) -> None:
    check = model.invariants.check
    for event, _ in model.events:
        if type(event) is not Outcomes:
            continue
        for outcome in event.outcomes:
            if outcome.failure is not None:
                attempts = [error.attempt for error in outcome.failure.history]
                check("I5", attempts == list(range(len(attempts))) and len(attempts) <= 4, event.owner, attempts)
                for error in outcome.failure.history:
                    lost = error.reason is Reason.WORKER_LOST
                    guilty = model.named_alone if lost else model.executed
                    executed = (event.owner, outcome.seq, error.attempt) in guilty
                    check("I5", executed, event.owner, outcome.seq, "was charged for attempt", error)
    disturbances = sum(model.faults.values())
    most = max(model.executions.values(), default=0)
    # Whoever runs a copy publishes a copy of its retry: one more with each attempt and each disturbance.
    check("I5", most <= 4 * (1 + disturbances) ** 2, "an attempt ran", most, "times")
