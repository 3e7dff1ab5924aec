"""One installation per test."""

from collections.abc import AsyncIterator

import pytest_asyncio
from unit.aggregator.world import TOPICS, World

from regather.topics.layout import Size, topic_specs


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    found = World()
    await found.transport.create_topics(topic_specs(TOPICS, Size.EMBEDDED))
    yield found
    await found.stop()
