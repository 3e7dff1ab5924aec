"""A broker in memory with Kafka's semantics, for unit tests, simulations and plug-in authors."""

from regather.transport.memory.broker import Faults, MemoryBroker
from regather.transport.memory.factory import MemoryTransport

__all__ = ["Faults", "MemoryBroker", "MemoryTransport"]
