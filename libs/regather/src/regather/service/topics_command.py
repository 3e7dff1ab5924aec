"""The topics of an installation: create missing ones, add partitions where allowed, compare all with the requirements.

`python -m regather.service.topics_command --size compose` applies and exits; `regather topics apply` and `check` run the
same code. It changes existing topics only by adding partitions to those that may grow. For everything else `check` says
what to do.
"""

import argparse
import asyncio
import sys
import time
from dataclasses import dataclass

from pydantic import Field

from regather.core.errors import BrokerUnavailable
from regather.service.logs import configure_logs, get_logger
from regather.service.settings import ServiceSettings
from regather.topics.layout import Size, topic_demands, topic_spec
from regather.topics.rules import (
    BROKER_SETTINGS,
    Cluster,
    Difference,
    TopicDemand,
    differences,
    fitted,
    growth,
)
from regather.transport.base import Transport
from regather.transport.kafka import KafkaTransport

log = get_logger()
_RETRY_S = 1.0
_SEEN_S, _LOOK_S = 15.0, 0.05


class TopicsSettings(ServiceSettings):
    """Environment names: REGATHER_ and the field's name in capitals."""

    topics_wait_s: float = Field(default=60.0, ge=0, description="how long to wait for the broker")
    replication: int = Field(default=1, ge=1, le=9, description="copies of each partition")
    max_deadline_s: float = Field(default=3600.0, gt=0, description="the gateways' limit of deadlines: the longest job")

    @property
    def longest_job_ms(self) -> int:
        """How long a job may take at most; least retentions follow from it."""
        return int(self.max_deadline_s * 1000)


@dataclass(frozen=True, slots=True)
class Applied:
    """Topics that were created, and those that grew with their new partition count."""

    created: list[str]
    grown: dict[str, int]


async def apply_topics(transport: Transport, settings: TopicsSettings, size: Size) -> Applied:
    """Create missing topics and add partitions where that is allowed.

    Raise BrokerUnavailable if no broker answers in time, TimeoutError if the brokers do not show the changes in time.
    """
    deadline_s = time.monotonic() + settings.topics_wait_s
    while True:
        try:
            return await _apply(transport, settings, size)
        except BrokerUnavailable as error:
            if time.monotonic() >= deadline_s:
                raise
            log.info("no-broker-yet", error=str(error))
            await asyncio.sleep(_RETRY_S)


async def _apply(transport: Transport, settings: TopicsSettings, size: Size) -> Applied:
    demands, events = _demands(settings, size), settings.topics.job_events
    states = await transport.topic_states([demand.name for demand in demands])
    created = await transport.create_topics([topic_spec(fitted(demand, states, events)) for demand in demands])
    grown = growth(demands, states)
    for topic, partitions in grown.items():
        await transport.grow_topic(topic, partitions)
    await _until_seen(transport, created, grown)
    return Applied(created, grown)


async def _until_seen(transport: Transport, created: list[str], grown: dict[str, int]) -> None:
    """Wait until a broker shows the controller's changes, so that the next client finds them."""
    wanted = dict.fromkeys(created, 1) | grown
    async with asyncio.timeout(_SEEN_S):
        while True:
            counts = await transport.partition_counts(wanted)
            if all(counts.get(topic, 0) >= partitions for topic, partitions in wanted.items()):
                return
            await asyncio.sleep(_LOOK_S)


async def check_topics(transport: Transport, settings: TopicsSettings, size: Size | None) -> list[Difference]:
    """Return every difference from the requirements; raise BrokerUnavailable or AccessDenied."""
    demands = _demands(settings, size)
    cluster = Cluster(
        settings.kafka_bootstrap_servers,
        await transport.topic_states([demand.name for demand in demands]),
        await transport.broker_settings(BROKER_SETTINGS),
        settings.topics.job_events,
    )
    return differences(demands, cluster)


def _demands(settings: TopicsSettings, size: Size | None) -> list[TopicDemand]:
    return topic_demands(
        settings.topics, size, replication=settings.replication, longest_job_ms=settings.longest_job_ms
    )


def topics_transport(settings: TopicsSettings) -> KafkaTransport:
    """Return a transport that creates topics with the replication of the settings."""
    return KafkaTransport(
        settings.kafka_bootstrap_servers, client_id="regather-topics", replication=settings.replication
    )


async def _run(settings: TopicsSettings, size: Size) -> int:
    transport = topics_transport(settings)
    try:
        applied = await apply_topics(transport, settings, size)
    except (BrokerUnavailable, TimeoutError) as error:
        log.error("topics-failed", error=str(error))
        return 1
    finally:
        await transport.close()
    log.info("topics-ready", created=applied.created, grown=applied.grown)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and the settings, apply the topics, and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m regather.service.topics_command", description="Create missing topics."
    )
    parser.add_argument("--size", type=Size, choices=list(Size), default=Size.PRODUCTION, help="partition counts")
    size = parser.parse_args(arguments).size
    settings = TopicsSettings()
    configure_logs("topics", settings.log_level)
    return asyncio.run(_run(settings, size))


if __name__ == "__main__":
    sys.exit(main())
