"""`make test`: lint, types, import rule and every test, with one JSON object as the last line.

With `--report NAME` first: only tests, those that the rest of the arguments choose, and the report under that name. Tests
of one file run in this process, more in several.

{"passed", "failed", "skipped": [{"test", "reason"}], "real_kafka_tests", "kafka", "suites": {name: seconds}}
A skipped test fails the run unless its reason stands in ALLOWED_SKIPS.
"""

import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from regather_cli.report import write_report

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
ALLOWED_SKIPS: dict[str, str] = {}
ON_KAFKA = ("broker", "kafka")
"""What conftest.py writes into the report of a test that needs a real broker."""

CHECKS: dict[str, list[str | Path]] = {
    "lint": [BIN / "ruff", "check", "."],
    "format": [BIN / "ruff", "format", "--check", "."],
    "types": [BIN / "mypy"],
    "arch": [BIN / "lint-imports", "--no-cache"],
}


class Report:
    """Counts what pytest ran, per suite (the folder under tests/) and on the real Kafka."""

    def __init__(self) -> None:
        self.passed = 0
        self.failed: list[str] = []
        self.skipped: list[dict[str, str]] = []
        self.real_kafka_tests = 0
        self.kafka = "none"
        self.suites: dict[str, float] = defaultdict(float)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        folders = report.nodeid.split("::")[0].split("/")[:-1]
        self.suites[folders[1] if len(folders) > 1 else "other"] += report.duration
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.skipped.append({"test": report.nodeid, "reason": reason})
        elif report.failed:
            self.failed.append(f"{report.nodeid} ({report.when})")
        elif report.when == "call":
            self.passed += 1
            self.real_kafka_tests += ON_KAFKA in report.user_properties

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.kafka = getattr(session.config, "regather_kafka", self.kafka)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """A process of the run has ended: its tests may have used a broker."""
        self.kafka = getattr(node, "workeroutput", {}).get("regather_kafka") or self.kafka


def main(arguments: list[str]) -> int:
    started = time.monotonic()
    report = Report()
    name, arguments = (arguments[1], arguments[2:]) if arguments[:1] == ["--report"] else ("test", arguments)
    checks = CHECKS if name in ("test", "test-all") else {}
    broken = [check for check, command in checks.items() if not _check(check, command, report)]
    chosen = [argument for argument in arguments if (ROOT / argument.split("::")[0]).exists()]
    options = ["-q", "--rootdir", str(ROOT), "-c", str(ROOT / "pyproject.toml"), *_processes(arguments)]
    code = pytest.main([*options, *arguments, *([] if chosen else [str(ROOT / "tests")])], plugins=[report])
    unlisted = [skip for skip in report.skipped if skip["reason"] not in ALLOWED_SKIPS]
    ok = code == 0 and not broken and not unlisted and not report.failed
    document = {
        "ok": ok,
        "passed": report.passed,
        "failed": [*broken, *report.failed],
        "skipped": report.skipped,
        "real_kafka_tests": report.real_kafka_tests,
        "kafka": report.kafka,
        "suites": {name: round(seconds, 1) for name, seconds in report.suites.items()},
    }
    print(json.dumps(write_report(name, document, started)), flush=True)
    return 0 if ok else 1


def _processes(arguments: list[str]) -> list[str]:
    """Whole files go to processes with a broker of their own, one for each core."""
    if any(argument in ("-n", "-x", "--pdb") or argument.endswith(".py") or "::" in argument for argument in arguments):
        return []
    return ["-n", str(os.cpu_count() or 1), "--dist", "loadfile", "--no-loadscope-reorder", "--max-worker-restart", "0"]


def _check(name: str, command: list[str | Path], report: Report) -> bool:
    started = time.monotonic()
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}  # where the import rule finds tests/reference
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    report.suites[name] = time.monotonic() - started
    print(f"{name}: {'ok' if result.returncode == 0 else 'FAILED'}", flush=True)
    if result.returncode != 0:
        print(result.stdout, result.stderr, flush=True)
    return result.returncode == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
