"""Regather: scatter one heavy job over Kafka, process its shards in killable children, regather one ordered result."""

from regather.core.errors import BadInput, PermanentError, RegatherError
from regather.processors.base import Piece, Processor, ShardView

__version__ = "0.1.0"
__all__ = ["BadInput", "PermanentError", "Piece", "Processor", "RegatherError", "ShardView", "__version__"]
