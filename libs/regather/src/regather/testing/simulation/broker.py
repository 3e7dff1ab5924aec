"""The simulated broker: logs, transactions and groups behind a network."""

import random
from collections.abc import Callable

from regather.core.errors import ProducerDead
from regather.testing.simulation.groups import Group
from regather.testing.simulation.history import History
from regather.testing.simulation.logs import Content, Logs
from regather.testing.simulation.network import Answer, Network
from regather.testing.simulation.transactions import Session, Transactions
from regather.transport.base import TopicPartition


class Broker:
    """One broker as its clients see it. `now_ms` is its clock."""

    def __init__(self, network: Network, chance: random.Random, history: History, now_ms: Callable[[], int]) -> None:
        self.network = network
        self.logs = Logs(now_ms, chance, history)
        self.transactions = Transactions(network, self.logs)
        self.groups: dict[str, Group] = {}

    def group(self, name: str) -> Group:
        """Return the consumer group of this name; create it on first use."""
        if name not in self.groups:
            self.groups[name] = Group(self.network, self.logs, name)
        return self.groups[name]

    def produce(
        self, session: Session, number: int | None, tp: TopicPartition, content: Content, answer: Answer
    ) -> None:
        """Write one record, into the session's transaction `number` if it has one."""
        network = self.network
        if network.random() < network.profile.record_refused:
            network.history.fault("broker", "record-refused", *tp)
            session.poisoned.add(tp)
        if tp in session.poisoned:
            answer(ProducerDead("the record, or one before it, was not written (simulated)"))
        elif number is None:
            self.logs.append(tp, content, None, answer)
        else:
            self.transactions.write(session, number, tp, content, answer)
