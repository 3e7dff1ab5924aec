"""The gateway's folder for bodies that must be files: swept of what was left, whole while it is in use."""

import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from regather_gateway.problems import Problem
from regather_gateway.submission.spool_dir import SpoolDir

KILLED = """
import os, signal, sys
from regather_gateway.submission.spool_dir import SpoolDir
spool = SpoolDir(sys.argv[1], max_bytes=100)
spool.open()
(spool.folder / "body").write_bytes(b"left behind")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_gateway_left_is_removed_at_the_next_start(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert len(list(tmp_path.glob("*/body"))) == 1
    spool = SpoolDir(str(tmp_path), max_bytes=100)
    spool.open()
    assert list(tmp_path.glob("*/body")) == []
    assert list(tmp_path.iterdir()) == [spool.folder]
    spool.close()
    assert list(tmp_path.iterdir()) == []


async def test_the_folder_of_a_gateway_that_runs_is_left_alone(tmp_path: Path) -> None:
    first, second = SpoolDir(str(tmp_path), max_bytes=100), SpoolDir(str(tmp_path), max_bytes=100)
    first.open()
    async with first.file() as file:
        await file.write(b"abc")
        await file.complete()
        second.open()
        assert file.path.read_bytes() == b"abc"
    assert not file.path.exists()
    first.close()
    second.close()


async def test_a_file_above_the_limit_is_refused_and_removed(tmp_path: Path) -> None:
    spool = SpoolDir(str(tmp_path), max_bytes=100)

    async def write_too_much() -> None:
        async with spool.file() as file:
            await file.write(b"x" * 60)
            await file.write(b"x" * 60)

    with pytest.raises(Problem, match="longer than 100 bytes"):
        await write_too_much()
    assert [path.name for path in spool.folder.iterdir()] == ["lock"]
    spool.close()


def test_gateways_that_start_at_once_leave_each_others_folders_alone(tmp_path: Path) -> None:
    sweeps, done = 0, threading.Event()

    def sweep() -> None:
        nonlocal sweeps
        while not done.is_set():
            other = SpoolDir(str(tmp_path), max_bytes=100)
            other.open()
            other.close()
            sweeps += 1

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    missing = 0
    for _ in range(400):
        spool = SpoolDir(str(tmp_path), max_bytes=100)
        spool.open()
        missing += not spool.folder.exists()
        spool.close()
    done.set()
    sweeper.join()
    assert (missing, sweeps > 10) == (0, True)


async def test_a_folder_that_was_cleaned_away_is_made_again(tmp_path: Path) -> None:
    spool = SpoolDir(str(tmp_path), max_bytes=100)
    spool.open()
    shutil.rmtree(spool.folder)
    async with spool.file() as file:
        await file.write(b"abc")
        await file.complete()
        assert file.path.read_bytes() == b"abc"
    spool.close()
    assert list(tmp_path.iterdir()) == []
