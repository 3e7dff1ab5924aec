import os
import subprocess
import sys

from regather_cli.process_table import descendants


def test_children_and_grandchildren_are_found_and_zombies_are_not() -> None:
    program = (
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import sys; sys.stdin.read()'], stdin=subprocess.PIPE)\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read()\n"
        "child.communicate()\n"
    )
    before = descendants()
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        grandchild_pid = int(child.stdout.readline())
        assert descendants() - before == {child.pid, grandchild_pid}
        assert grandchild_pid in descendants(child.pid)
        assert child.stdin is not None
        child.stdin.close()
        # Ended but not reaped: a zombie, which no longer counts.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert descendants() - before == set()
