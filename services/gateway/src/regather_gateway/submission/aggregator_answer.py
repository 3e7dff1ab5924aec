"""Waits for the aggregator's status of a submission whose seal is in doubt (docs/protocol.md#submission)."""

from regather.core.model import Identity, JobState, Reason
from regather.core.status import JobStatus
from regather.core.submission import Doubt
from regather_gateway.problems import Problem, broker_unavailable
from regather_gateway.views.status_view import StatusView

_WHY = {
    Doubt.HEARTBEAT_MISSED: "a heartbeat of the upload was late, so the job may have been closed",
    Doubt.OPENED_BEFORE: "an earlier submission with this key, which has stopped, may have opened the job",
}


async def aggregator_answered(view: StatusView, owner: Identity, timeout_s: float) -> bool:
    """Wait for a status of the aggregator for this version or a later one; return False after `timeout_s`."""

    def answered(status: JobStatus | None) -> bool:
        if status is None or status.owner.version < owner.version:
            return False
        return status.owner.version > owner.version or status.state.rank >= JobState.RUNNING.rank

    await view.wait_for(owner.job_id, answered, timeout_s)
    return answered(view.get(owner.job_id))


def no_answer(owner: Identity, doubt: Doubt) -> Problem:
    """Build the Problem 503 of a seal that stays in doubt."""
    return broker_unavailable(
        f"{_WHY[doubt]}, and the aggregator has not answered yet: poll status_url, or repeat the request",
        code="state-unknown",
        job_id=owner.job_id,
        status_url=f"/v1/jobs/{owner.job_id}",
    )


def check_not_closed(status: JobStatus) -> None:
    """Raise Problem 409 for a job that was closed because the heartbeats of its upload were missed."""
    if status.reason is Reason.NOT_SEALED:
        detail = f"the job was closed while its upload still ran ({status.error}); submit it again"
        raise Problem(409, "closed-meanwhile", detail, job_id=status.owner.job_id)
