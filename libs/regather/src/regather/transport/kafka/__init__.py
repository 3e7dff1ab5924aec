"""Kafka through aiokafka. Only this package depends on the client, and it handles the client's traps."""

from regather.transport.kafka.factory import KafkaTransport
from regather.transport.kafka.failures import Limits

__all__ = ["KafkaTransport", "Limits"]
