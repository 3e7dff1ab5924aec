"""Cancels a job: the gateway writes a `cancel` event, and the aggregator decides in log order whether it counts."""

from regather.core.errors import TransportError
from regather.core.model import Cancel, Identity
from regather.service.logs import get_logger
from regather_gateway.problems import broker_unavailable, unconfirmed
from regather_gateway.submission.producing import ProducerKeeper
from regather_gateway.submission.upload import UploadFactory

log = get_logger()


class Canceller:
    """Writes `cancel` events on the gateway's one producer."""

    def __init__(self, producers: ProducerKeeper, uploads: UploadFactory) -> None:
        self._producers = producers
        self._uploads = uploads

    async def cancel(self, owner: Identity) -> None:
        """Write the `cancel` event of a job; Problem 503 without an ack in time."""
        session = self._producers.current()
        try:
            await self._uploads.events(session, owner).publish(Cancel(owner))
        except (TransportError, TimeoutError) as error:
            self._producers.discard(session)
            why = unconfirmed(error)
            raise broker_unavailable(f"Kafka did not confirm the cancellation ({why}); repeat it") from error
        log.info("job-cancelled", job=owner.job_id)
