"""One key at two gateways at once: the submission whose first status comes first in the log goes on."""

from collections.abc import Callable, Sequence

from regather.core.model import Identity
from regather.transport.base import RecordAddress
from regather_gateway.problems import Problem
from regather_gateway.views.status_view import StatusView

GivesWay = Callable[[], Problem]


class Claim:
    """A submission's claim to its job and version. `seen`: whose statuses of the job were read since before it was made.

    The first status is the claim, acked before `opened` is sent: so whoever has opened a version has claimed it before, and
    of all who claim it only the first goes on. Else a 202 could go to a submission that is not the job's, because its
    `opened` came second; and the job would end as not sealed when the first one's gateway dies.
    """

    def __init__(
        self, view: StatusView, owner: Identity, seen: Sequence[Identity], timeout_s: float, gives_way: GivesWay
    ) -> None:
        self._view = view
        self._owner = owner
        self._seen = seen
        self._timeout_s = timeout_s
        self._gives_way = gives_way

    async def hold(self, address: RecordAddress) -> None:
        """Return if the claim at this place is the first; raises the Problem of one that gives way, BrokerUnavailable."""
        await self._view.read_past(self._owner.job_id, address.offset, self._timeout_s)
        first = next((seen for seen in self._seen if seen.version >= self._owner.version), self._owner)
        if first != self._owner:
            raise self._gives_way()
