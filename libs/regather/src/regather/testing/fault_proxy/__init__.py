"""A TCP proxy between clients and real Kafka brokers that holds, drops, resets or garbles chosen requests and replies."""

from regather.testing.fault_proxy.proxy import FaultProxy
from regather.testing.fault_proxy.rules import Armed, Rule

__all__ = ["Armed", "FaultProxy", "Rule"]
