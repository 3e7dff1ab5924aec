"""The state of one ownership epoch: from the fence of a partition's producer to its loss."""

from regather.core.partition_fold import PartitionFold
from regather_aggregator.checkpoints import Checkpoints
from regather_aggregator.emission_queue import EmissionQueue
from regather_aggregator.own_finals import OwnFinals


class Epoch:
    """Discarded as a whole when the producer fails; the log has everything that the next epoch needs.

    `accepting` is true once the epoch is restored; it then folds the records from `next_offset` on.
    """

    def __init__(self, fold: PartitionFold) -> None:
        self.fold = fold
        self.queue = EmissionQueue()
        self.finals = OwnFinals()
        self.checkpoints = Checkpoints()
        self.next_offset = 0
        self.accepting = False

    def end(self) -> None:
        """Stop accepting records and free the fold's memory and spill files."""
        self.accepting = False
        self.fold.close()
