"""Whether a seal counts: the job may have been closed before it, or be another submission's, in log order, and nobody
here knows."""

from regather.core.model import Identity, JobState, Reason
from regather.core.status import JobStatus
from regather_gateway.problems import Problem, broker_unavailable
from regather_gateway.views.status_view import StatusView

FELL_SILENT = "the upload was silent for so long that the job may have been closed"
AFTER_ANOTHER = "a submission with this key that was not heard of any more may have opened the job before"


async def wait_for_aggregator(view: StatusView, owner: Identity, timeout_s: float, doubt: str = FELL_SILENT) -> None:
    """Return when the aggregator has spoken of this version since its seal, or of its end; Problem 503 if it does not."""

    def spoken(status: JobStatus | None) -> bool:
        if status is None or status.owner.version < owner.version:
            return False
        return status.owner.version > owner.version or status.state.rank >= JobState.RUNNING.rank

    await view.wait_for(owner.job_id, spoken, timeout_s)
    if not spoken(view.get(owner.job_id)):
        raise broker_unavailable(
            f"{doubt}, and nobody says what became of it: ask for it, or repeat",
            code="state-unknown",
            job_id=owner.job_id,
            status_url=f"/v1/jobs/{owner.job_id}",
        )


def check_not_closed(status: JobStatus) -> None:
    """Problem 409 for a job that was closed because its upload was silent."""
    if status.reason is Reason.NOT_SEALED:
        detail = f"the job was closed while its upload still ran ({status.error}); submit it again"
        raise Problem(409, "closed-meanwhile", detail, job_id=status.owner.job_id)
