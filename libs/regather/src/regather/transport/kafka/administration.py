"""Administration of a cluster: create topics, list their replicas, and read settings of topics and brokers."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import errors as client_errors
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from regather.core.errors import BrokerUnavailable, TransportError
from regather.topics.rules import TopicSpec
from regather.transport.kafka.failures import Limits, limited, stopped, translate


@asynccontextmanager
async def connected_admin(settings: Mapping[str, Any], limits: Limits) -> AsyncIterator[AIOKafkaAdminClient]:
    """Connect an admin client for the length of a block; raise BrokerUnavailable if no broker answers."""
    client = AIOKafkaAdminClient(**settings, request_timeout_ms=limits.request_ms)
    try:
        try:
            await limited(client.start(), timeout_s=limits.call_s)
        except TransportError as error:
            raise BrokerUnavailable(f"no broker answered: {error}") from error
        yield client
    finally:
        await stopped(client.close(), timeout_s=limits.stop_s)


async def create_missing(admin: AIOKafkaAdminClient, specs: Sequence[TopicSpec], replication: int) -> list[str]:
    """Create the missing topics and return their names."""
    existing = set(await limited(admin.list_topics()))
    missing = [spec for spec in specs if spec.name not in existing]
    new = [NewTopic(spec.name, spec.partitions, replication, topic_configs=dict(spec.config)) for spec in missing]
    if new:
        response = await limited(admin.create_topics(new))
        for name, code, *message in response.topic_errors:
            error = client_errors.for_code(code)
            if error not in (client_errors.NoError, client_errors.TopicAlreadyExistsError):
                raise BrokerUnavailable(f"topic {name} could not be created: {error.__name__} {message}")
    return [spec.name for spec in missing]


async def replicas_of(admin: AIOKafkaAdminClient, topics: Iterable[str]) -> dict[str, list[list[int]]]:
    """Return the brokers of every partition of each existing topic.

    Request all topics: a broker with automatic creation would create each topic that is requested by name.
    """
    wanted = set(topics)
    found = [topic for topic in await limited(admin.describe_topics()) if topic["topic"] in wanted]
    return {
        topic["topic"]: [list(part["replicas"]) for part in sorted(topic["partitions"], key=lambda p: p["partition"])]
        for topic in found
        if topic["error_code"] == 0
    }


async def configs_of(
    admin: AIOKafkaAdminClient, kind: ConfigResourceType, resources: Iterable[str], names: Iterable[str] | None = None
) -> dict[str, dict[str, str]]:
    """Return the settings in force of each topic or broker: all, or these `names`; without those that have no value."""
    wanted = None if names is None else dict.fromkeys(names)
    asked = [ConfigResource(kind, resource, wanted) for resource in resources]
    if not asked:
        return {}
    found: dict[str, dict[str, str]] = {}
    for response in await limited(admin.describe_configs(asked)):
        for code, message, _kind, resource, entries in response.resources:
            if code:
                raise translate(client_errors.for_code(code)(f"the settings of {resource}: {message}"))
            found[resource] = {name: value for name, value, *_rest in entries if value is not None}
    return found
