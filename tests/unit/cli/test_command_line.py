import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from regather_cli import doctor
from regather_cli.main import app


@pytest.fixture
def runner() -> CliRunner:
    return CliRunner()


def test_the_commands_are_listed(runner: CliRunner) -> None:
    shown = runner.invoke(app, ["--help"]).output
    for command in ("up", "submit", "status", "doctor", "demo", "topics", "audit"):
        assert command in shown


def test_a_malformed_option_is_a_usage_error_that_quotes_it(runner: CliRunner, tmp_path: Path) -> None:
    file = tmp_path / "f"
    file.write_bytes(b"x")
    result = runner.invoke(app, ["submit", str(file), "--kind", "k", "--option", "width8"])
    assert result.exit_code == 2
    assert "width8" in result.output


def test_a_missing_file_is_a_usage_error(runner: CliRunner, tmp_path: Path) -> None:
    result = runner.invoke(app, ["submit", str(tmp_path / "absent"), "--kind", "k"])
    assert result.exit_code == 2
    assert "is not a file" in result.output


def test_no_gateway_is_a_failure_with_advice(runner: CliRunner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"http://127.0.0.1:{server.getsockname()[1]}"
    result = runner.invoke(app, ["status", "j", "--url", url])
    assert result.exit_code == 1
    assert "regather up" in result.output


def test_the_doctor_fails_on_a_port_that_is_taken_and_says_so(runner: CliRunner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        result = runner.invoke(app, ["doctor", "--port", str(port), "--json"])
    assert result.exit_code == 1
    (check,) = [check for check in json.loads(result.output)["checks"] if check["name"] == "port"]
    assert not check["ok"]
    assert str(port) in check["detail"]


def test_the_doctor_asks_a_named_broker_and_reports_that_it_does_not_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    checks = {check.name: check for check in doctor.examine(1, {"KAFKA_BOOTSTRAP_SERVERS": address})}
    assert not checks["broker"].ok
    assert address in checks["broker"].detail
    assert not checks["java"].needed


def test_a_check_that_only_informs_does_not_fail_the_whole() -> None:
    checks = [doctor.Check("a", ok=True, detail=""), doctor.Check("b", ok=False, detail="", needed=False)]
    assert doctor.report(checks)["ok"]
    assert not doctor.report([*checks, doctor.Check("c", ok=False, detail="")])["ok"]


def test_an_audit_that_does_not_say_from_where_reads_nothing(runner: CliRunner) -> None:
    result = runner.invoke(app, ["audit", "--bootstrap", "127.0.0.1:1"])
    assert result.exit_code == 2
    assert "--from-beginning" in result.output


def test_no_broker_is_a_failure_in_one_sentence(runner: CliRunner) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        bootstrap = f"127.0.0.1:{server.getsockname()[1]}"
    for command in (["audit", "--from-beginning"], ["topics", "check"]):
        result = runner.invoke(app, [*command, "--bootstrap", bootstrap])
        assert result.exit_code == 1
        assert result.output.startswith("regather: ")
        assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("command", "quoted"),
    [
        (["audit", "--from-beginning", "--job", "the-last-one"], "the-last-one"),
        (["audit", "--from-beginning", "--prefix", "topics/"], "topics/"),
        (["topics", "check", "--prefix", "topics/"], "topics/"),
        (["topics", "apply", "--prefix", "topics/"], "topics/"),
    ],
    ids=["audit-job", "audit-prefix", "check-prefix", "apply-prefix"],
)
def test_what_cannot_be_a_job_or_a_topic_is_a_usage_error_that_quotes_it(
    runner: CliRunner, command: list[str], quoted: str
) -> None:
    result = runner.invoke(app, command)
    assert result.exit_code == 2
    assert quoted in result.output
