"""Fetches a group's committed offsets without the client, which mistakes a refusal for "nothing is committed".

A coordinator that is loading or no longer the coordinator refuses the whole request with one error beside an empty list
of topics (OffsetFetch, version 2 and later). aiokafka 0.14 checks only the errors of single partitions, finds none, and
returns no offset. A consumer that trusts it would start at the beginning of the log.
"""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka import errors as client_errors
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.structs import OffsetAndMetadata

_PAUSE_S = 0.1
_NONE = -1


async def ask_committed(
    coordinator: Any, partitions: Sequence[TopicPartition]
) -> Mapping[TopicPartition, OffsetAndMetadata]:
    """Ask until the coordinator answers. Leave out partitions without a committed offset. The caller limits the time.

    `coordinator` is aiokafka's GroupCoordinator. Raise the client's error if it is not retriable.
    """
    while True:
        await coordinator.ensure_coordinator_known()
        try:
            return await _ask(coordinator, partitions)
        except client_errors.KafkaError as error:
            if isinstance(error, client_errors.NotCoordinatorForGroupError):
                coordinator.coordinator_dead()
            elif not error.retriable:
                raise
            await asyncio.sleep(_PAUSE_S)


async def _ask(coordinator: Any, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, OffsetAndMetadata]:
    topics: dict[str, list[int]] = defaultdict(list)
    for tp in partitions:
        topics[tp.topic].append(tp.partition)
    response = await coordinator._send_req(OffsetFetchRequest(coordinator.group_id, [*topics.items()]))
    _check(response.error_code, coordinator.group_id)
    found, answered = {}, set()
    for topic, entries in response.topics:
        for partition, offset, metadata, error_code in entries:
            tp = TopicPartition(topic, partition)
            _check(error_code, str(tp))
            answered.add(tp)
            if offset != _NONE:
                found[tp] = OffsetAndMetadata(offset, metadata)
    missing = set(partitions) - answered
    if missing:
        raise client_errors.GroupCoordinatorNotAvailableError(f"the answer lacks {sorted(missing)}")
    return found


def _check(error_code: int, what: str) -> None:
    if error_code:
        raise client_errors.for_code(error_code)(what)
