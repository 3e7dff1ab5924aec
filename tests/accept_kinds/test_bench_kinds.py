"""The bench of the kinds: children that have ended count, and goals are met or not."""

import subprocess
import sys

from bench_kinds import GOALS, goals
from kinds_bench.children import child_seconds, own_seconds

ZYGOTE = """
import os, sys, time
if os.fork() == 0:
    while time.process_time() < 0.3:
        pass
    os._exit(0)
os.wait()
print("reaped", flush=True)
sys.stdin.read()
"""
SERVICE = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {ZYGOTE!r}])"


def test_a_child_that_was_reaped_counts() -> None:
    with subprocess.Popen([sys.executable, "-c", SERVICE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as service:
        assert service.stdin is not None
        assert service.stdout is not None
        assert service.stdout.readline() == b"reaped\n"
        assert child_seconds([service.pid]) >= 0.29
        assert own_seconds([service.pid]) < 0.29
        service.stdin.close()


def test_a_goal_is_met_at_most_at_its_value_and_never_without_a_figure() -> None:
    name, part, path, goal = GOALS[3]
    for value, met in ((goal, True), (goal + 0.01, False)):
        (found,) = goals({part: {path[0]: value}})
        assert found == {"name": name, "value": value, "goal": goal, "met": met}
    (failed,) = goals({"dicom": {"failed": "no"}})
    assert failed["met"] is False
    assert goals({}) == []
