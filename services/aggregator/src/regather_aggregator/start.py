"""Where the owner of a partition begins: the group's commit and the restart point in its metadata."""

from dataclasses import dataclass

from regather.core.errors import WireError
from regather.core.merge_attempts import MergeAttempts
from regather.service.logs import get_logger
from regather.transport.base import Committed
from regather.wire.restart_point import RestartPoint, decode_restart_point, encode_restart_point
from regather_aggregator.epoch import Epoch

log = get_logger()


@dataclass(frozen=True, slots=True)
class Start:
    """A partition of job-events at its assignment: the group's commit, the first offset and the next one to write."""

    committed: Committed | None
    beginning: int
    end: int

    def begun_merges(self) -> MergeAttempts:
        """Return the merge marks of the previous owner; if it crashed, all jobs opened so far are suspects."""
        point = point_of(self.committed)
        unclean = self.committed is not None and not point.clean_shutdown
        return MergeAttempts(point.merges, suspects_below=self.end if unclean else 0)


def point_of(committed: Committed | None) -> RestartPoint:
    """Return the restart point in the metadata; an empty one if there is none or it cannot be read."""
    try:
        return decode_restart_point(committed.metadata) if committed else RestartPoint()
    except WireError as error:
        log.error("commit-metadata-unreadable", error=str(error))
        return RestartPoint()


def commit_of(epoch: Epoch, merges: MergeAttempts, *, clean_shutdown: bool) -> Committed:
    """Return the offset to commit, with what a restart needs in the metadata."""
    point = RestartPoint(
        results_from=epoch.own_finals.first_offset,
        checkpoints_from=epoch.checkpoints.first_offset(epoch.fold),
        clean_shutdown=clean_shutdown,
        merges=merges.clean_shutdown() if clean_shutdown else merges.marks(),
    )
    return Committed(epoch.fold.low_offset(epoch.next_offset), encode_restart_point(point))
