"""The state of one ownership epoch: from the fence of a partition's producer to its loss."""

from regather.core.partition_fold import PartitionFold
from regather_aggregator.checkpoints import Checkpoints
from regather_aggregator.emission_queue import EmissionQueue
from regather_aggregator.own_finals import OwnFinals


class Epoch:
    """Thrown away as a whole when the producer fails; the log holds all that the next epoch needs.

    `accepting`: it is restored, and folds the records from `next_offset` on.
    """

    def __init__(self, fold: PartitionFold) -> None:
        self.fold = fold
        self.queue = EmissionQueue()
        self.finals = OwnFinals()
        self.checkpoints = Checkpoints()
        self.next_offset = 0
        self.accepting = False

    def end(self) -> None:
        """Free what the fold holds; nothing of this epoch counts any more."""
        self.accepting = False
        self.fold.close()
