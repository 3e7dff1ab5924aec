"""Shared fixtures: the broker ladder, hypothesis profiles, an environment without the developer's own settings."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from regather.embedded.embedded_kafka import EmbeddedKafka, free_port
from regather.embedded.kafka_broker import BOOTSTRAP_VARIABLE, RUNG_VARIABLE, Broker, open_broker
from regather.testing.fault_proxy import FaultProxy

# Read before the scrubbing below, which lasts as long as the test run.
_LADDER = {name: os.environ[name] for name in (BOOTSTRAP_VARIABLE, RUNG_VARIABLE) if name in os.environ}

settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
settings.register_profile("deep", deadline=None, max_examples=2_000, suppress_health_check=[HealthCheck.too_slow])


def pytest_configure(config: pytest.Config) -> None:
    default = "ci" if os.environ.get("CI") else "dev"
    settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", default))
    for name in [name for name in os.environ if name.startswith("REGATHER_") or name == BOOTSTRAP_VARIABLE]:
        del os.environ[name]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("kafka"):
            item.user_properties.append(("broker", "kafka"))


def pytest_sessionfinish(session: pytest.Session) -> None:
    output = getattr(session.config, "workeroutput", None)  # of a process of pytest-xdist: goes to the one that reports
    if output is not None:
        output["regather_kafka"] = getattr(session.config, "regather_kafka", "")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A process of the run has ended: the summary names its broker."""
    found = getattr(node, "workeroutput", {}).get("regather_kafka")
    if found:
        node.config.regather_kafka = found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    terminalreporter.write_line(f"kafka broker: {getattr(config, 'regather_kafka', 'none was needed')}")


@pytest.fixture(scope="session")
def kafka_broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """One real broker for the whole run; tests share it, so every test names its topics anew."""
    with open_broker(environment=_LADDER) as broker:
        request.config.regather_kafka = f"{broker.rung} {broker.version}"
        yield broker


@pytest.fixture(scope="session")
def kafka_bootstrap(kafka_broker: Broker) -> str:
    """`host:port` of the shared broker."""
    return kafka_broker.bootstrap_servers


@pytest.fixture(scope="session")
def repository_root() -> Path:
    """The folder that holds pyproject.toml."""
    return Path(__file__).parents[1]


@pytest.fixture(scope="session")
def proxied_kafka() -> Iterator[EmbeddedKafka]:
    """A second broker, which clients reach directly or through a `fault_proxy`.

    It takes short sessions, so that a member that was lost is missed soon, and no transaction longer than
    ours may be.
    """
    settings = {"group.min.session.timeout.ms": "500", "transaction.max.timeout.ms": "20000"}
    with EmbeddedKafka(settings=settings, proxy_port=free_port()) as kafka:
        yield kafka


@pytest_asyncio.fixture
async def fault_proxy(proxied_kafka: EmbeddedKafka) -> AsyncIterator[FaultProxy]:
    """The proxy before `proxied_kafka`, without a rule."""
    async with FaultProxy(dict([proxied_kafka.proxy_route])) as proxy:
        yield proxy
