"""Words the failures of user code once, in the child where they happen, so that no later place can leak more.

Theory of operation. An exception from a processor becomes two texts. `text` goes into events, dead letters and HTTP
answers, where clients read it. It is one line with type and message. For a plug-in, the frames of its code follow, with
paths within their packages, because its author has to find the place. `trace` has the same frames for built-in kinds,
and goes only to the log of the service. No text contains a folder of the server, a line of source code or a control
character. The child makes both texts right after the exception. So everything that leaves the child is safe for a
client, and whatever the exception's own methods do (raise, return megabytes) happens within the child's limits.
"""

import errno
import os
import sys
import traceback
from dataclasses import dataclass
from functools import lru_cache
from types import TracebackType
from typing import Any

from regather.children.child_protocol import MAX_ERROR_BYTES, cut_text
from regather.children.work import Call, Work
from regather.core.errors import UserError
from regather.core.model import Reason
from regather.core.public_text import one_line, printed_line, short_path, without_folders, without_paths
from regather.processors.base import Processor

_MESSAGE_BYTES = 1024
_FRAMES_SHOWN = 12
_OWN_PACKAGE = "regather."
_OUR_FRAMES = f"{os.sep}regather{os.sep}children{os.sep}"
_FRAME = '  File "'
_BUILT_IN_FRAME = '  File "regather/'
_STACK_WORDS = (
    _FRAME,
    "Thread 0x",
    "Current thread",
    "Stack (most recent call first):",
    "Fatal Python error",
    "Extension modules",
    "  <no Python",
    "  ...",
)
_UNMAPPED = ("failed to map segment", "cannot allocate memory", "cannot map")
_NEVER_CERTAIN = (MemoryError, OSError)
_TYPE_NAME = type.__dict__["__name__"]


class KindMissing(Exception):
    """The registry of this process does not have the kind."""


@dataclass(frozen=True, slots=True)
class FailureText:
    """Why an attempt failed: `text` for clients, `trace` for the log; `retryable`: another attempt may succeed."""

    reason: Reason
    text: str
    retryable: bool
    trace: str = ""


def explain(error: BaseException, processor: Processor[Any] | None) -> FailureText:
    """Return the texts of an exception from a processor's code (None: the kind was not found). Never raises."""
    try:
        return _explained(error, processor)
    except BaseException:  # an exception whose own attributes raise
        return FailureText(Reason.RAISED, type_name(error), retryable=True)


def _explained(error: BaseException, processor: Processor[Any] | None) -> FailureText:
    if _lacks_memory(error):
        return _accident(Reason.OUT_OF_MEMORY, error, processor, advice=_more_memory(error))
    if isinstance(error, UserError):  # raised on purpose: no stack is needed
        return FailureText(Reason.PERMANENT, said_on_purpose(error), retryable=False)
    if isinstance(error, SystemExit):
        return FailureText(Reason.EXITED, f"called sys.exit({_shown(error.code)})", retryable=True)
    if isinstance(error, KindMissing):
        return FailureText(Reason.INTERNAL, said_on_purpose(error), retryable=True)
    if _is_certain(error, processor):
        return _accident(Reason.PERMANENT, error, processor, retryable=False)
    return _accident(Reason.RAISED, error, processor)


def _lacks_memory(error: BaseException) -> bool:
    """Whether the error is a lack of memory, as Python, the loader of a library, or DuckDB reports it."""
    if isinstance(error, ImportError):
        return any(words in _message(error).lower() for words in _UNMAPPED)
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, MemoryError) or type_name(error) == "OutOfMemoryException"


def _more_memory(error: BaseException) -> str:
    if isinstance(error, ImportError):
        return (
            "; the child imports its engine within the memory limit of the shard: the worker needs a larger "
            "REGATHER_MEMORY_LIMIT_BYTES (340 MiB for table kinds, beside what the data needs)"
        )
    return "; ask for a smaller shard_size, or give the worker a larger REGATHER_MEMORY_LIMIT_BYTES if it has one"


def too_much(size_bytes: int, work: Work) -> FailureText:
    """Return the text for an output above its limit. It is not retryable, because process() is pure."""
    text = f"returned {size_bytes} bytes; at most {work.limits.output_bytes} are allowed{how_to_get_less(work)}"
    return FailureText(Reason.RETURNED_TOO_MUCH, text, retryable=False)


def how_to_get_less(work: Work) -> str:
    """Return advice that makes a shard's output smaller; empty for an output that is not a shard's."""
    if work.call not in (Call.PROCESS, Call.STEP):
        return ""
    return ": ask for a smaller shard_size (or more shards), or for fewer columns or values in the result"


def said_on_purpose(error: BaseException, *, body_path: str | None = None) -> str:
    """Return the message of an error that was raised for the client to read, without this server's folders.

    `body_path` is the path of the client's body on this server, which means nothing to the client.
    """
    message = _message(error)
    if body_path is not None:
        message = message.replace(body_path, "the body")
    message = one_line(without_folders(message, _server_folders()))
    return cut_text(message or type_name(error), _MESSAGE_BYTES)


def printed_text(printed: str) -> tuple[str, str]:
    """Return what a child printed, for clients and for the log, without folders, own frames and control characters.

    A child prints a stack before it is killed or when it crashes. The stack is for the author of the outermost code:
    that of a plug-in is shown to clients, that of a built-in kind goes only to the log.
    """
    roots = package_roots()
    lines = [line for line in printed.splitlines() if not (line.startswith(_FRAME) and _is_own(line))]
    shown = [printed_line(line, roots) for line in lines]
    frames = [line for line in shown if line.startswith(_FRAME)]
    if not frames or not frames[-1].startswith(_BUILT_IN_FRAME):  # the outermost frame is printed last
        return "\n".join(shown), ""
    said = [line for line in shown if not line.startswith(_STACK_WORDS)]
    return "\n".join(said).strip("\n"), "\n".join(line for line in shown if line.startswith(_STACK_WORDS))


@lru_cache(maxsize=1)
def package_roots() -> tuple[str, ...]:
    """Return the folders in which this process finds packages."""
    return tuple(entry for entry in sys.path if entry.startswith("/") and not entry.endswith(".zip"))


def _is_own(line: str) -> bool:
    return _OUR_FRAMES in line or "<frozen runpy>" in line


def _accident(
    reason: Reason,
    error: BaseException,
    processor: Processor[Any] | None,
    *,
    retryable: bool = True,
    advice: str = "",
) -> FailureText:
    """Return the texts of an unexpected error: the type, the message without paths, and the frames."""
    summary = type_name(error)
    message = one_line(without_paths(_message(error)))
    if message:
        summary = f"{summary}: {message}"
    summary = cut_text(summary, _MESSAGE_BYTES) + advice
    frames = cut_text(_frames(error.__traceback__), MAX_ERROR_BYTES - 2 * _MESSAGE_BYTES)
    if _is_built_in(processor):
        return FailureText(reason, summary, retryable, frames)
    return FailureText(reason, f"{summary}\n{frames}".rstrip(), retryable)


def type_name(error: BaseException) -> str:
    """Return the name of the error's class, even if its metaclass overrides `__name__`."""
    return one_line(str(_TYPE_NAME.__get__(type(error))))


def _message(error: BaseException) -> str:
    """Return the beginning of an exception's text; empty if it has none or its __str__ raises."""
    try:
        return "".join((str(error),))[
            : 8 * _MESSAGE_BYTES
        ]  # joined: __str__ may return a subclass with methods of its own
    except BaseException:  # a __str__ that raises, exits, or runs out of memory
        return ""


def _shown(code: object) -> str:
    try:
        return one_line(without_paths(cut_text(repr(code), _MESSAGE_BYTES)))
    except BaseException:
        return "..."


def _frames(trace: TracebackType | None) -> str:
    """Return the innermost frames, one per line: `my_plugin/core.py:12 in process`."""
    try:
        roots = package_roots()
        stack = [(frame.f_code, line) for frame, line in traceback.walk_tb(trace)]
        outside = [(code, line) for code, line in stack if _OUR_FRAMES not in code.co_filename][-_FRAMES_SHOWN:]
        return "\n".join(
            f"  {one_line(short_path(code.co_filename, roots))}:{line} in {one_line(code.co_name)}"
            for code, line in outside
        )
    except BaseException:  # no memory left to format with
        return ""


def _is_certain(error: BaseException, processor: Processor[Any] | None) -> bool:
    """Whether the processor declares that only the data causes this error, so that every attempt would fail."""
    try:
        return (
            processor is not None
            and isinstance(error, Exception)
            and isinstance(error, processor.certain)
            and not isinstance(error, _NEVER_CERTAIN)
        )
    except TypeError:  # a plug-in whose `certain` is not a tuple of classes
        return False


def _is_built_in(processor: Processor[Any] | None) -> bool:
    return processor is not None and type(processor).__module__.startswith(_OWN_PACKAGE)


@lru_cache(maxsize=1)
def _server_folders() -> tuple[str, ...]:
    models = os.environ.get("REGATHER_MODELS_DIR", "")
    return (*package_roots(), sys.prefix, sys.base_prefix, *([models] if models else []))
