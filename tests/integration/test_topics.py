"""Topics on a real broker: applied, checked, mended; an aggregator that will not use a broker that is set wrong."""

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from typer.testing import CliRunner

from regather.embedded.embedded_kafka import EmbeddedKafka
from regather.service.topics_command import TopicsSettings, apply_topics, check_topics, topics_transport
from regather.testing.waiting import eventually
from regather.topics.layout import Size, topic_specs
from regather.topics.rules import VERIFICATION
from regather_cli.main import app
from regather_cli.service_process import Role, Service, StackError

pytestmark = [pytest.mark.long, pytest.mark.kafka, pytest.mark.timeout(300)]


async def alter(bootstrap: str, kind: ConfigResourceType, name: str, config: Mapping[str, str]) -> None:
    """Replace every setting of a topic or broker that is not the default."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.alter_configs([ConfigResource(kind, name, dict(config))])
    finally:
        await admin.close()


def run(*arguments: str) -> tuple[int, Any]:
    result = CliRunner().invoke(app, ["topics", *arguments, "--json"])
    return result.exit_code, json.loads(result.output.splitlines()[-1])


def test_the_command_applies_and_finds_nothing_wrong_with_what_it_made(kafka_bootstrap: str) -> None:
    where = ("--bootstrap", kafka_bootstrap, "--prefix", f"c{uuid.uuid4().hex[:8]}.")
    code, missing = run("check", *where, "--size", "embedded")
    assert code == 1
    assert {difference["found"] for difference in missing["differences"]} == {"missing"}
    code, applied = run("apply", *where, "--size", "embedded")
    assert code == 0
    assert len(applied["created"]) == len(missing["differences"])
    assert run("check", *where, "--size", "embedded") == (0, {"ok": True, "differences": []})
    assert run("check", *where) == (0, {"ok": True, "differences": []})
    code, applied = run("apply", *where, "--size", "compose")
    assert (code, applied["created"]) == (0, [])
    assert applied["grown"][where[3] + "shards.bulk"] == 16
    code, report = run("check", *where, "--size", "compose")
    assert code == 1
    frozen = where[3] + "job-events"
    assert [(d["subject"], d["setting"]) for d in report["differences"]] == [(frozen, "partitions")]


async def test_what_somebody_changed_is_seen_with_the_command_that_mends_it(kafka_bootstrap: str) -> None:
    settings = TopicsSettings(kafka_bootstrap_servers=kafka_bootstrap, topic_prefix=f"c{uuid.uuid4().hex[:8]}.")
    transport = topics_transport(settings)
    await apply_topics(transport, settings, Size.EMBEDDED)
    name = settings.topics.results
    (spec,) = [spec for spec in topic_specs(settings.topics, Size.EMBEDDED) if spec.name == name]
    changed = {**spec.config, "retention.ms": "60000", "message.timestamp.type": "CreateTime"}
    await alter(kafka_bootstrap, ConfigResourceType.TOPIC, name, changed)

    async def seen() -> bool:
        found = await check_topics(transport, settings, Size.EMBEDDED)
        return [difference.setting for difference in found] == ["retention.ms", "message.timestamp.type"]

    await eventually(seen, what="both differences")
    (retention, _) = await check_topics(transport, settings, Size.EMBEDDED)
    tool = f"kafka-configs.sh --bootstrap-server {kafka_bootstrap} --entity-type topics --entity-name {name}"
    assert retention.command == f"{tool} --alter --add-config 'retention.ms={8 * 24 * 3600 * 1000}'"
    await alter(kafka_bootstrap, ConfigResourceType.TOPIC, name, spec.config)

    async def mended() -> bool:
        return await check_topics(transport, settings, Size.EMBEDDED) == []

    await eventually(mended, what="topics that are as they must be")


async def test_the_aggregator_leaves_a_broker_that_does_not_verify_and_comes_once_it_does(tmp_path: Path) -> None:
    with EmbeddedKafka(settings={VERIFICATION: "false"}) as kafka:
        settings = TopicsSettings(kafka_bootstrap_servers=kafka.bootstrap_servers)
        transport = topics_transport(settings)
        await apply_topics(transport, settings, Size.EMBEDDED)
        (difference,) = await check_topics(transport, settings, Size.EMBEDDED)
        assert (difference.subject, difference.setting) == ("broker 1", VERIFICATION)
        environment = {"KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "PYTHONUNBUFFERED": "1"}
        aggregator = Service(Role.AGGREGATOR, "aggregator", tmp_path, environment)
        try:
            aggregator.start()
            with pytest.raises(StackError, match="ended with exit code 1"):
                await aggregator.wait_ready(60)
            (refusal,) = [line for line in aggregator.log_path.read_text().splitlines() if "broker-refused" in line]
            assert "Set it to true" in json.loads(refusal)["error"]
            assert "Traceback" not in aggregator.log_path.read_text()

            await alter(kafka.bootstrap_servers, ConfigResourceType.BROKER, "1", {VERIFICATION: "true"})

            async def mended() -> bool:
                return await check_topics(transport, settings, Size.EMBEDDED) == []

            await eventually(mended, what="a broker that verifies")
            aggregator.start()
            await aggregator.wait_ready(60)
        finally:
            aggregator.stop(10)


async def test_asking_for_a_topic_does_not_create_it_where_brokers_create_topics_by_themselves() -> None:
    with EmbeddedKafka(settings={"auto.create.topics.enable": "true"}) as kafka:
        settings = TopicsSettings(kafka_bootstrap_servers=kafka.bootstrap_servers)
        transport = topics_transport(settings)
        assert await transport.partition_counts(["job-events"]) == {}
        found = await check_topics(transport, settings, Size.EMBEDDED)
        assert {difference.setting for difference in found} == {"auto.create.topics.enable", "topic"}
        await apply_topics(transport, settings, Size.EMBEDDED)
        assert await transport.partition_counts(["job-events", "no-such-topic"]) == {"job-events": 1}
        left = await check_topics(transport, settings, Size.EMBEDDED)
        assert [difference.setting for difference in left] == ["auto.create.topics.enable"]
