"""Translates the client's errors to ours, and puts a time limit around every call."""

import asyncio
import logging
import types
from collections.abc import Awaitable, Callable, Coroutine, Generator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast

from aiokafka import errors as client_errors

from regather.core.errors import (
    AccessDenied,
    BrokerUnavailable,
    ClientFailure,
    CommitRejected,
    Fenced,
    OffsetOutOfRange,
    ProducerDead,
    RecordTooLarge,
    TransportError,
)

T = TypeVar("T")
CALL_TIMEOUT_S = 15.0
STOP_TIMEOUT_S = 10.0
_CUT_OFF_S = 2.0


@dataclass(frozen=True, slots=True)
class Limits:
    """Time limits of the client's calls. When one has passed, the outcome is unknown and the client must be dropped.

    `ack_s` is above the producer's own request limit, after which a working producer fails the record itself. A poll
    may exceed its own time-out by `poll_slack_s`, because it waits during a rebalance. A consumer without a record for
    `silence_s` is checked for a stall, and given up if it stalls. A client that has not stopped after `stop_s` is
    force-closed. Consumers notice new partitions of a topic within `metadata_s`.
    """

    call_s: float = CALL_TIMEOUT_S
    ack_s: float = 15.0
    poll_slack_s: float = 120.0
    silence_s: float = 30.0
    stop_s: float = STOP_TIMEOUT_S
    metadata_s: float = 30.0

    @property
    def request_ms(self) -> int:
        """The client's own limit of one request, below that of a call: only the client can clean up after it."""
        return int(self.call_s * 1000 * 2 / 3)


_log = logging.getLogger(__name__)
_KINDS: tuple[tuple[type[TransportError], tuple[type[BaseException], ...]], ...] = (
    (Fenced, (client_errors.ProducerFenced, client_errors.InvalidProducerEpoch)),
    (RecordTooLarge, (client_errors.MessageSizeTooLargeError, client_errors.RecordListTooLargeError)),
    (OffsetOutOfRange, (client_errors.OffsetOutOfRangeError,)),
    (
        CommitRejected,
        (
            client_errors.CommitFailedError,
            client_errors.IllegalGenerationError,
            client_errors.UnknownMemberIdError,
            client_errors.RebalanceInProgressError,
            client_errors.IllegalStateError,
        ),
    ),
    (AccessDenied, (client_errors.TopicAuthorizationFailedError, client_errors.ClusterAuthorizationFailedError)),
    (
        ProducerDead,
        (
            client_errors.OutOfOrderSequenceNumber,
            client_errors.IllegalOperation,
            client_errors.ProducerClosed,
            AssertionError,
        ),
    ),
)

_PERMANENT = (
    client_errors.UnsupportedCodecError,
    client_errors.UnsupportedVersionError,
    client_errors.IncompatibleBrokerVersion,
    client_errors.InvalidTopicError,
    client_errors.AuthenticationFailedError,
    client_errors.SaslAuthenticationFailed,
    client_errors.UnsupportedSaslMechanismError,
    client_errors.AuthenticationMethodNotSupported,
)
_OF_THE_CONNECTION = (client_errors.KafkaError, OSError, TimeoutError)
"""What a network or a broker may cause. Any other error is the client's own."""


def translate(error: BaseException) -> TransportError:
    """Return our error for one of the client's. For an unknown error the outcome is unknown, too: BrokerUnavailable."""
    if isinstance(error, TransportError):
        return error
    if isinstance(error, TimeoutError) and not str(error):
        return BrokerUnavailable("Kafka did not answer within the time limit")
    for ours, theirs in _KINDS:
        if isinstance(error, theirs):
            return ours(str(error) or repr(error))
    if isinstance(error, _PERMANENT) or not isinstance(error, _OF_THE_CONNECTION):
        return ClientFailure(f"the Kafka client cannot go on, and asking again does not help: {error!r}")
    return BrokerUnavailable(repr(error))


async def limited(call: Awaitable[T], *, timeout_s: float = CALL_TIMEOUT_S) -> T:
    """Await a call of the client within a time limit; raise every error as one of ours."""
    try:
        async with asyncio.timeout(timeout_s):
            return await call
    except Exception as error:  # the client raises Kafka, OS, assertion and time-out errors alike
        raise translate(error) from error


async def limited_where_it_waits(call: Coroutine[Any, Any, T], *, timeout_s: float) -> T:
    """Do the same as limited(), but start a timer only if the call has to wait: a timer costs more than most calls."""
    try:
        waits_for = call.send(None)
    except StopIteration as done:
        return cast("T", done.value)
    except Exception as error:
        raise translate(error) from error
    return await limited(_resumed(call, waits_for), timeout_s=timeout_s)


@types.coroutine
def _resumed(call: Coroutine[Any, Any, T], waits_for: Any) -> Generator[Any, Any, T]:
    """Continue a coroutine that already waits for `waits_for`."""
    while True:
        try:
            answer = yield waits_for
        except BaseException as error:
            step = partial(call.throw, error)
        else:
            step = partial(call.send, answer)
        try:
            waits_for = step()
        except StopIteration as done:
            return cast("T", done.value)


async def stopped(
    call: Awaitable[object], *, timeout_s: float = STOP_TIMEOUT_S, cut_off: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Await a client's stop within a time limit. Log errors, because no caller could handle them.

    Call `cut_off` for a client that takes longer: its tasks would run for ever, such as the one that sends heartbeats.
    """
    task = asyncio.ensure_future(call)  # a task of its own, because some clients raise their own CancelledError
    await asyncio.wait([task], timeout=timeout_s)
    if not task.done():
        _log.warning("a Kafka client did not stop within %s s and is force-closed", timeout_s)
        if cut_off is not None:
            await cut_off()
            await asyncio.wait([task], timeout=_CUT_OFF_S)
    if not task.done():
        task.cancel()
    elif not task.cancelled() and task.exception() is not None:
        _log.warning("a Kafka client did not stop cleanly: %r", task.exception())
