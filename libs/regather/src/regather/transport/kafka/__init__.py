"""Kafka through aiokafka. This package is the only place that knows the client; its traps are handled here."""

from regather.transport.kafka.factory import KafkaTransport
from regather.transport.kafka.failures import Limits

__all__ = ["KafkaTransport", "Limits"]
