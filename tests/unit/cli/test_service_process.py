from pathlib import Path

import pytest

from regather_cli.service_process import Role, Service, StackError


@pytest.mark.parametrize("role", list(Role))
async def test_a_service_that_ends_at_once_is_named_with_the_tail_of_its_log(role: Role, tmp_path: Path) -> None:
    service = Service(role, f"{role.word}-1", tmp_path, {"REGATHER_HTTP_PORT": "nonsense"})
    service.start()
    try:
        with pytest.raises(StackError, match=rf"{role.word}-1 ended with exit code 1") as caught:
            await service.wait_ready(timeout_s=30)
    finally:
        service.kill()
    assert "http_port" in str(caught.value)
    assert not service.running


async def test_a_service_that_never_becomes_ready_is_given_up(tmp_path: Path) -> None:
    environment = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}
    service = Service(Role.AGGREGATOR, "aggregator-1", tmp_path, environment)
    service.start()
    try:
        with pytest.raises(StackError, match=r"aggregator-1 (was not ready within|ended with exit code)"):
            await service.wait_ready(timeout_s=2)
    finally:
        service.kill()
    assert not service.running
