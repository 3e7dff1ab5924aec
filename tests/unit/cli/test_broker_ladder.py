import socket
from collections.abc import Callable

import pytest

from regather.embedded import kafka_probe
from regather.embedded.kafka_broker import BrokerLadderError, Rung, choose_rung, open_broker


def _yes() -> bool:
    return True


def _no() -> bool:
    return False


def _must_not_be_asked() -> bool:
    raise AssertionError("Docker was asked although the rung was settled")


@pytest.mark.parametrize(
    ("environment", "docker_answers", "expected"),
    [
        ({"KAFKA_BOOTSTRAP_SERVERS": "host:9092"}, _must_not_be_asked, Rung.EXTERNAL),
        ({}, _yes, Rung.DOCKER),
        ({}, _no, Rung.EMBEDDED),
        ({"KAFKA_BOOTSTRAP_SERVERS": ""}, _no, Rung.EMBEDDED),
        ({"KAFKA_BOOTSTRAP_SERVERS": "host:9092", "REGATHER_KAFKA": "embedded"}, _must_not_be_asked, Rung.EMBEDDED),
        ({"REGATHER_KAFKA": "docker"}, _must_not_be_asked, Rung.DOCKER),
    ],
)
def test_the_highest_rung_that_can_work_is_chosen_unless_one_is_forced(
    environment: dict[str, str], docker_answers: Callable[[], bool], expected: Rung
) -> None:
    assert choose_rung(environment, docker_answers) is expected


def test_a_rung_that_does_not_exist_is_refused_with_the_ones_that_do() -> None:
    with pytest.raises(BrokerLadderError, match=r"'podman' is not one of external, docker, embedded"):
        choose_rung({"REGATHER_KAFKA": "podman"}, _no)


def test_external_without_an_address_names_the_variable() -> None:
    with (
        pytest.raises(BrokerLadderError, match="KAFKA_BOOTSTRAP_SERVERS=host:port"),
        open_broker(environment={"REGATHER_KAFKA": "external"}),
    ):
        pass


def test_the_probe_says_which_server_did_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(OSError, match=f"127.0.0.1:{port}: ConnectionRefusedError"):
        kafka_probe.ask(f"127.0.0.1:{port}")
