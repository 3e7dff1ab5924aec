"""The broker's transaction coordinator, for clients that use the first version of the protocol (KIP-98).

Markers end a transaction, one in each partition, and each takes its own time. Until the last one is written, neither
the next transaction nor the next producer of that id begins. A request names only its producer epoch, not its
transaction: a late request ends whatever transaction of that epoch is open then.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from regather.core.errors import Fenced, ProducerDead
from regather.testing.simulation.logs import Content, Logs
from regather.testing.simulation.network import Answer, Network
from regather.transport.base import TRANSACTION_TIMEOUT_S, TopicPartition
from regather.transport.memory.log import Transaction, TransactionState

_SLOW_MARKER_S = 4.0


@dataclass(slots=True, eq=False)
class OpenTransaction:
    """A transaction that has records; `number` is the client's count, which a real broker does not get."""

    number: int
    began_s: float
    transaction: Transaction = field(default_factory=Transaction)
    touched: dict[TopicPartition, None] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Markers:
    """Markers of one transactional id that are not written yet, and the callbacks that wait for them."""

    due: int = 0
    waiting: list[Callable[[], None]] = field(default_factory=list)

    def when_written(self, go_on: Callable[[], None]) -> None:
        """Call `go_on` once no marker is due."""
        if self.due:
            self.waiting.append(go_on)
        else:
            go_on()

    def written(self) -> None:
        """Note that one marker was written."""
        self.due -= 1
        if not self.due:
            waiting, self.waiting = self.waiting, []
            for go_on in waiting:
                self.when_written(go_on)


@dataclass(slots=True, eq=False)
class Session:
    """One epoch of one transactional id, or an idempotent producer without one."""

    transactional_id: str = ""
    epoch: int = 0
    markers: Markers = field(default_factory=Markers)
    open: OpenTransaction | None = None
    ended: int = 0
    """Transactions up to this number have ended: a late record of one of them is refused."""
    poisoned: set[TopicPartition] = field(default_factory=set)


class Transactions:
    """All transactional ids of the broker."""

    def __init__(self, network: Network, logs: Logs) -> None:
        self._network = network
        self._logs = logs
        self._sessions: dict[str, Session] = {}
        self._longest_open_s = 0.0

    @property
    def open(self) -> list[OpenTransaction]:
        """Transactions that have not ended yet."""
        return [session.open for session in self._sessions.values() if session.open is not None]

    def longest_open_s(self) -> float:
        """Return the longest time in seconds that a transaction was open; one still open counts until now."""
        now_s = self._network.loop.time()
        return max(self._longest_open_s, *(now_s - transaction.began_s for transaction in self.open), 0.0)

    def init(self, transactional_id: str, answer: Answer) -> None:
        """Fence older producers of this id; answer with the new session once their transaction has ended."""
        old = self._sessions.get(transactional_id)
        session = Session(transactional_id) if old is None else _next_epoch(old)
        self._sessions[transactional_id] = session
        self._network.history.note("broker", "fence", transactional_id, session.epoch)
        if old is not None:
            self._end(old, TransactionState.ABORTED)
        session.markers.when_written(lambda: answer(session))

    def write(self, session: Session, number: int, tp: TopicPartition, content: Content, answer: Answer) -> None:
        """Write one record into the session's transaction `number`, which begins with its first record."""
        if self._fenced(session, answer):
            return
        if session.markers.due:
            session.markers.when_written(lambda: self.write(session, number, tp, content, answer))
        elif number <= session.ended:
            answer(ProducerDead("the transaction is over (simulated)"))
        elif tp in session.poisoned:
            answer(ProducerDead("a record before this one was not written (simulated)"))
        else:
            if session.open is None:
                self._begin(session, number)
            assert session.open is not None
            session.open.touched[tp] = None
            self._logs.append(tp, content, session.open.transaction, answer)

    def end(self, session: Session, number: int, state: TransactionState, answer: Answer) -> None:
        """End the open transaction of this session, if any; answer before the markers are written."""
        if self._fenced(session, answer):
            return
        session.ended = max(session.ended, number)
        self._end(session, state)
        answer(None)

    def _begin(self, session: Session, number: int) -> None:
        session.open = OpenTransaction(number, self._network.loop.time())
        self._network.at_broker(TRANSACTION_TIMEOUT_S, self._expire, session, session.open)

    def _expire(self, session: Session, expired: OpenTransaction) -> None:
        if session.open is not expired:
            return
        self._network.history.fault("broker", "transaction-expired", session.transactional_id)
        self._end(session, TransactionState.ABORTED)
        if self._sessions[session.transactional_id] is session:  # fence its producer as well
            self._sessions[session.transactional_id] = _next_epoch(session)

    def _fenced(self, session: Session, answer: Answer) -> bool:
        if self._sessions.get(session.transactional_id) is session:
            return False
        answer(Fenced(f"a newer producer of {session.transactional_id} took over (simulated)"))
        return True

    def _end(self, session: Session, state: TransactionState) -> None:
        ended, session.open = session.open, None
        if ended is None:
            return
        ended.transaction.state = state
        session.ended = max(session.ended, ended.number)
        session.markers.due += len(ended.touched)
        network = self._network
        self._longest_open_s = max(self._longest_open_s, network.loop.time() - ended.began_s)
        for tp in ended.touched:
            slow = network.random() < network.profile.markers_slow
            if slow:
                network.history.fault("broker", "marker-slow", *tp)
            delay_s = network.latency_s() + (network.random() * _SLOW_MARKER_S if slow else 0.0)
            network.at_broker(delay_s, self._mark, session, tp, ended.transaction, state)

    def _mark(self, session: Session, tp: TopicPartition, transaction: Transaction, state: TransactionState) -> None:
        self._logs.mark(tp, transaction, state)
        session.markers.written()


def _next_epoch(old: Session) -> Session:
    return Session(old.transactional_id, old.epoch + 1, old.markers)
