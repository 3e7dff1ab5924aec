"""`python -m regather.runtime.topics --size compose`: create the topics that are missing, then leave.

Waits for the broker, at most REGATHER_TOPICS_WAIT_S. Topics that are there are not touched, whatever their settings.
"""

import argparse
import asyncio
import sys
import time

from pydantic import Field

from regather.core.errors import BrokerUnavailable
from regather.runtime.logs import configure_logs, get_logger
from regather.runtime.settings import ServiceSettings
from regather.transport.base import Transport
from regather.transport.kafka import KafkaTransport
from regather.transport.topics import Size, topic_specs

log = get_logger()
_RETRY_S = 1.0


class TopicsSettings(ServiceSettings):
    """Environment names: REGATHER_ and the field's name in capitals."""

    topics_wait_s: float = Field(default=60.0, ge=0, description="how long to wait for the broker")
    replication: int = Field(default=1, ge=1, le=9, description="copies of each partition")


async def apply_topics(transport: Transport, settings: TopicsSettings, size: Size) -> list[str]:
    """Create what is missing; the names. BrokerUnavailable if there is no broker in time."""
    deadline_s = time.monotonic() + settings.topics_wait_s
    specs = topic_specs(settings.topics, size, replication=settings.replication)
    while True:
        try:
            return await transport.create_topics(specs)
        except BrokerUnavailable as error:
            if time.monotonic() >= deadline_s:
                raise
            log.info("no-broker-yet", error=str(error))
            await asyncio.sleep(_RETRY_S)


async def _run(settings: TopicsSettings, size: Size) -> int:
    transport = KafkaTransport(
        settings.kafka_bootstrap_servers, client_id="regather-topics", replication=settings.replication
    )
    try:
        created = await apply_topics(transport, settings, size)
    except BrokerUnavailable as error:
        log.error("topics-failed", error=str(error))
        return 1
    finally:
        await transport.close()
    log.info("topics-ready", created=created)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Read the command line and the settings; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m regather.runtime.topics", description="Create missing topics.")
    parser.add_argument("--size", type=Size, choices=list(Size), default=Size.PRODUCTION, help="partition counts")
    size = parser.parse_args(arguments).size
    settings = TopicsSettings()
    configure_logs("topics", settings.log_level)
    return asyncio.run(_run(settings, size))


if __name__ == "__main__":
    sys.exit(main())
