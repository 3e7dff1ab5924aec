"""Kinds that misbehave in ways that the built-in `diagnostics` does not know. Imported by the zygote of the tests."""

import hashlib
import itertools
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from regather.core.errors import BadInput, PermanentError
from regather.processors.base import (
    DATA_ERRORS,
    FileSplitter,
    Options,
    Piece,
    Processor,
    ShardView,
    SplitRequest,
    Splitter,
)

FOREVER_S = 600


class FaultOptions(Options):
    """`do` to the shards whose seq is in `only` (all if empty); `folder` is where pids are written."""

    do: str = "echo"
    only: tuple[int, ...] = ()
    folder: str = ""


class Fault(Processor[FaultOptions]):
    """Echoes, or does what its options say."""

    options_model = FaultOptions

    def splitter(self, options: FaultOptions, request: SplitRequest) -> Splitter:
        raise NotImplementedError

    def process(self, shard: ShardView, options: FaultOptions) -> bytes:
        if options.only and shard.seq not in options.only:
            return shard.payload
        output = FAULTS[options.do](shard, options)
        return shard.payload if output is None else output

    def merge(self, outputs: Sequence[bytes | None], options: FaultOptions) -> bytes:
        if options.do != "echo":
            FAULTS[options.do](ShardView(b"", b"", 0, 0), options)
        return json.dumps([None if output is None else output.decode() for output in outputs]).encode()


def hold_the_interpreter(shard: ShardView, options: FaultOptions) -> None:
    """One call into C that keeps the interpreter's lock and answers no signal."""
    sum(range(10**13))


def release_the_interpreter(shard: ShardView, options: FaultOptions) -> None:
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2_000_000_000)


def sleep(shard: ShardView, options: FaultOptions) -> None:
    time.sleep(FOREVER_S)


def sleep_a_little(shard: ShardView, options: FaultOptions) -> None:
    time.sleep(0.03)


def burn_a_little(shard: ShardView, options: FaultOptions) -> None:
    end_s = time.process_time() + 0.4
    while time.process_time() < end_s:
        pass


def ignore_signals(shard: ShardView, options: FaultOptions) -> None:
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(FOREVER_S)


def close_everything(shard: ShardView, options: FaultOptions) -> None:
    os.closerange(0, 4096)


def write_everywhere(shard: ShardView, options: FaultOptions) -> None:
    """Write junk to every socket, as code that mixes up descriptors might."""
    for fd in range(3, 256):
        try:
            socket.socket(fileno=os.dup(fd)).send(b"junk that is long enough to be taken for the head of a frame")
        except OSError:
            continue


def stop_oneself(shard: ShardView, options: FaultOptions) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def exit_politely(shard: ShardView, options: FaultOptions) -> None:
    sys.exit("enough")


def raise_unprintable(shard: ShardView, options: FaultOptions) -> None:
    class Unprintable(Exception):
        def __str__(self) -> str:
            raise ValueError("no text for you")

    raise Unprintable


class Text(str):
    """What a text must not do when it is shown."""

    __slots__ = ()

    def __getitem__(self, key: object) -> str:
        raise ValueError("no letters for you")

    def __str__(self) -> str:
        raise ValueError("no text for you")


class Evil(Exception):
    def __str__(self) -> str:
        return Text("two\n\u2028lines \x1b[2J \ud800 " + "x" * 1_000_000)


class EvilOnPurpose(Evil, PermanentError):
    pass


class Faceless(Exception):
    @property  # type: ignore[misc]  # nobody may override it so, and a hostile error does
    def __class__(self) -> type:
        raise KeyError


def raise_faceless(shard: ShardView, options: FaultOptions) -> None:
    raise Faceless


def raise_evil(shard: ShardView, options: FaultOptions) -> None:
    raise Evil


def raise_evil_on_purpose(shard: ShardView, options: FaultOptions) -> None:
    raise EvilOnPurpose("")


def raise_with_path(shard: ShardView, options: FaultOptions) -> None:
    Path("/srv/secret folder/regather/model.onnx").read_bytes()


def confuse(shard: ShardView, options: FaultOptions) -> None:
    len(shard.seq)  # type: ignore[arg-type]  # the fault of this kind


def crash_below(shard: ShardView, options: FaultOptions) -> None:
    print("reading /var/spool/regather/body.tif")
    os.kill(os.getpid(), signal.SIGSEGV)


def environment(shard: ShardView, options: FaultOptions) -> bytes:
    return json.dumps(dict(os.environ)).encode()


def identity(shard: ShardView, options: FaultOptions) -> bytes:
    return json.dumps(
        {"pid": os.getpid(), "group": os.getpgrp(), "session": os.getsid(0), "zygote": os.getppid()}
    ).encode()


def print_and_crash(shard: ShardView, options: FaultOptions) -> None:
    print(f"last words of {shard.seq}")
    os.kill(os.getpid(), signal.SIGSEGV)


def print_much(shard: ShardView, options: FaultOptions) -> None:
    print("earlier words\n" * 60_000)


def leave_helper(shard: ShardView, options: FaultOptions) -> None:
    """Leave a process of the same group behind and return."""
    _note(options, subprocess.Popen(["sleep", str(FOREVER_S)]).pid)


def leave_daemon(shard: ShardView, options: FaultOptions) -> None:
    """Leave a process behind that has neither parent nor session in common with the child."""
    _note(options, _daemon())


def family(shard: ShardView, options: FaultOptions) -> None:
    """Hang with a child of the same group, one in a session of its own, and one that was orphaned on purpose."""
    _note(options, os.getpid())
    _note(options, subprocess.Popen(["sleep", str(FOREVER_S)]).pid)
    _note(options, subprocess.Popen(["sleep", str(FOREVER_S)], start_new_session=True).pid)
    _note(options, _daemon())
    Path(options.folder, "complete").touch()
    time.sleep(FOREVER_S)


def grow(shard: ShardView, options: FaultOptions) -> None:
    bytearray(b"x") * 200_000_000


def count_faults(shard: ShardView, options: FaultOptions) -> bytes:
    """Fill 16 MiB in a block and give it back; say how many pages had to be fetched for that."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = bytearray(16 * 1024 * 1024)
    block[:: resource.getpagesize()] = b"x" * (len(block) // resource.getpagesize())
    return str(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before).encode()


def kill_zygote(shard: ShardView, options: FaultOptions) -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(FOREVER_S)


def _daemon() -> int:
    read_fd, write_fd = os.pipe()
    middle = os.fork()
    if middle == 0:
        os.setsid()
        orphan = os.fork()
        if orphan == 0:
            time.sleep(FOREVER_S)
        os.write(write_fd, str(orphan).encode())
        os._exit(0)
    os.waitpid(middle, 0)
    return int(os.read(read_fd, 100))


def _note(options: FaultOptions, pid: int) -> None:
    Path(options.folder, f"pid-{pid}").touch()


FAULTS: dict[str, Callable[[ShardView, FaultOptions], bytes | None]] = {
    "echo": lambda shard, options: shard.payload,
    "hold_the_interpreter": hold_the_interpreter,
    "release_the_interpreter": release_the_interpreter,
    "sleep": sleep,
    "sleep_a_little": sleep_a_little,
    "burn_a_little": burn_a_little,
    "ignore_signals": ignore_signals,
    "close_everything": close_everything,
    "write_everywhere": write_everywhere,
    "stop_oneself": stop_oneself,
    "exit_politely": exit_politely,
    "raise_unprintable": raise_unprintable,
    "raise_evil": raise_evil,
    "raise_faceless": raise_faceless,
    "raise_evil_on_purpose": raise_evil_on_purpose,
    "raise_with_path": raise_with_path,
    "confuse": confuse,
    "crash_below": crash_below,
    "environment": environment,
    "identity": identity,
    "print_and_crash": print_and_crash,
    "print_much": print_much,
    "leave_helper": leave_helper,
    "leave_daemon": leave_daemon,
    "family": family,
    "grow": grow,
    "count_faults": count_faults,
    "kill_zygote": kill_zygote,
}


class Certain(Fault):
    """A kind whose errors come from its data alone."""

    certain = DATA_ERRORS


class CutOptions(Options):
    """`do` after the second piece of `size` bytes."""

    do: str = ""
    size: int = 1000


class Cut(Processor[CutOptions]):
    """Cuts files, or breaks over them."""

    options_model = CutOptions

    def splitter(self, options: CutOptions, request: SplitRequest) -> FileSplitter:
        return FileCut(options)

    def process(self, shard: ShardView, options: CutOptions) -> bytes:
        raise NotImplementedError


class FileCut:
    def __init__(self, options: CutOptions) -> None:
        self._options = options

    def cut(self, path: Path) -> Iterator[Piece]:
        options = self._options
        with path.open("rb") as file:
            for number in itertools.count():
                payload = file.read(options.size)
                if not payload:
                    return
                if number == 2 and options.do:
                    break_over(options.do, path)
                yield Piece(payload, str(number).encode())


def break_over(do: str, path: Path) -> None:
    if do == "path":
        raise BadInput(f"{path} is no picture")
    if do == "refuse":
        raise BadInput("no such thing", code="odd-file")
    if do == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if do == "hang":
        time.sleep(FOREVER_S)
    if do == "exit":
        os._exit(3)
    raise ZeroDivisionError


KINDS = {"fault": Fault(), "certain": Certain(), "cut": Cut()}
