"""The parts that the routes use, wired once by the composition root."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from regather.processors.registry import Registry
from regather.transport.log_reader import LogReader
from regather_gateway.admission import Admission, SideRoom
from regather_gateway.settings import GatewaySettings
from regather_gateway.submission.cancel import Canceller
from regather_gateway.submission.producing import ProducerKeeper
from regather_gateway.submission.redrive import Redriver
from regather_gateway.submission.submit import Submitter
from regather_gateway.views.results import Results
from regather_gateway.views.status_view import StatusView
from regather_gateway.views.worker_view import WorkersView


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything behind the HTTP routes."""

    settings: GatewaySettings
    registry: Registry
    producers: ProducerKeeper
    view: StatusView
    workers: WorkersView
    submitter: Submitter
    canceller: Canceller
    redriver: Redriver
    results: Results
    events: LogReader
    admission: Admission
    side_room: SideRoom

    @property
    def not_ready_because(self) -> str | None:
        """Why the gateway cannot accept jobs or answer for them; None while it can."""
        if self.admission.draining:
            return "the gateway is shutting down"
        if not self.producers.ready:
            return f"no producer: {self.producers.why_not}"
        if self.view.newer:
            return "a job's status is of a later release: upgrade this gateway; its log has the place"
        if not self.view.ready:
            return "the statuses of jobs are not loaded, or no broker answers"
        return None


async def gateway_of(request: Request) -> Gateway:
    """Return the parts of the application that got this request. Async, because FastAPI runs sync ones in a thread."""
    gateway: Gateway = request.app.state.gateway
    return gateway


Parts = Annotated[Gateway, Depends(gateway_of)]
"""The parameter of a route that needs the parts."""
