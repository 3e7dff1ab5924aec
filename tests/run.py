"""`make test`: lint, types, import rule and every test, with one JSON object as the last line.

With `--report NAME` first: only tests, those that the rest of the arguments choose, and the report under that name.

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

import pytest

from regather_cli.report import write_report

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
ALLOWED_SKIPS: dict[str, str] = {}
CHECKS = {
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
        self._on_kafka: set[str] = set()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        self._on_kafka = {item.nodeid for item in items if item.get_closest_marker("kafka")}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.suites[report.nodeid.split("/")[1]] += report.duration
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.skipped.append({"test": report.nodeid, "reason": reason})
        elif report.failed:
            self.failed.append(f"{report.nodeid} ({report.when})")
        elif report.when == "call":
            self.passed += 1
            self.real_kafka_tests += report.nodeid in self._on_kafka

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self.kafka = getattr(session.config, "regather_kafka", "none")


def main(arguments: list[str]) -> int:
    started = time.monotonic()
    report = Report()
    name, arguments = (arguments[1], arguments[2:]) if arguments[:1] == ["--report"] else ("test", arguments)
    checks = CHECKS if name == "test" else {}
    broken = [check for check, command in checks.items() if not _check(check, command, report)]
    code = pytest.main([str(ROOT / "tests"), "-q", "--rootdir", str(ROOT), *arguments], plugins=[report])
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
