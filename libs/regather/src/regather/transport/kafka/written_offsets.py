"""Asks for the high watermarks of partitions, which the client has no call for."""

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka import errors as client_errors
from aiokafka.protocol.offset import OffsetRequest, OffsetResetStrategy

_ANY_REPLICA, _READ_UNCOMMITTED = -1, 0
_PAUSE_S = 0.05
_OWN_CONNECTION = 2
"""A third connection beside the client's two: a broker answers in order, and a fetch may wait half a second."""


async def ask_written_offsets(client: Any, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
    """Ask each partition's leader for its high watermark until it answers; the caller sets the time limit.

    `client` is the connection pool of a consumer (aiokafka's AIOKafkaClient). Its list of leaders may be outdated,
    because a follower serves a consumer's fetches, too.
    """
    while True:
        try:
            return await _ask_leaders(client, partitions)
        except client_errors.KafkaError as error:
            if not error.retriable:
                raise
            if error.invalid_metadata:
                await client.force_metadata_update()
            await asyncio.sleep(_PAUSE_S)


async def _ask_leaders(client: Any, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
    by_leader: dict[int, list[TopicPartition]] = defaultdict(list)
    for tp in partitions:
        leader = client.cluster.leader_for_partition(tp)
        if leader is None or leader < 0:
            raise client_errors.LeaderNotAvailableError(tp)
        by_leader[leader].append(tp)
    answers = await asyncio.gather(*(_ask(client, leader, tps) for leader, tps in by_leader.items()))
    return {tp: offset for answer in answers for tp, offset in answer.items()}


async def _ask(client: Any, leader: int, partitions: Sequence[TopicPartition]) -> Mapping[TopicPartition, int]:
    topics: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for tp in partitions:
        topics[tp.topic].append((tp.partition, OffsetResetStrategy.LATEST))
    request = OffsetRequest(_ANY_REPLICA, _READ_UNCOMMITTED, [*topics.items()])
    response = await client.send(leader, request, group=_OWN_CONNECTION)
    found = {}
    for topic, entries in response.topics:
        for partition, error_code, _timestamp, offset in entries:
            if error_code:
                raise client_errors.for_code(error_code)(f"{topic}-{partition}")
            found[TopicPartition(topic, partition)] = offset
    return found
