"""Decides the result of each item of a piece of work whose child died. Pure: all observations are arguments."""

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto

from regather.children.child_protocol import CHANNEL_LOST, ProgressCell, cut_text
from regather.children.failure_text import how_to_get_less, printed_text
from regather.children.work import Call, Work
from regather.core.execution import Failed, NotRun, Result
from regather.core.model import Reason

_OWN_TEXT_BYTES = 1024


class Cause(Enum):
    """Why a child was killed, if it did not die by itself."""

    ITSELF = auto()
    OVERDUE = auto()
    STUCK = auto()
    BAD_REPLY = auto()
    LOST = auto()


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a child that had work.

    `index` is the item that was executing, or one of ProgressCell's negative constants. `status` is the wait status,
    None if it is unknown. `detail` and `reason` say what was wrong with a reply. `printed` is the end of what the child
    printed.
    """

    cause: Cause
    index: int
    started_ms: int = 0
    duration_us: int = 0
    status: int | None = None
    detail: str = ""
    reason: Reason = Reason.CRASHED
    printed: str = ""


def judge(work: Work, known: Sequence[Result | None], death: Death) -> list[Result] | None:
    """Return one result per item; `known` holds those that arrived before the death.

    None: the guilty item of this batch is unknown, so each item has to be run alone. Work of one item never gives None.
    """
    alone = len(known) == 1
    if death.cause is Cause.LOST or (death.index == ProgressCell.WAITING and death.cause is not Cause.BAD_REPLY):
        return [NotRun(begun=at == death.index) if result is None else result for at, result in enumerate(known)]
    if not alone and not _names_the_guilty(known, death):
        return None
    guilty = 0 if alone else death.index
    failure = _failure(work, death)
    return [
        result if result is not None else (failure if at == guilty else NotRun()) for at, result in enumerate(known)
    ]


def _names_the_guilty(known: Sequence[Result | None], death: Death) -> bool:
    """Whether the item in the cell is guilty. A bad reply proves nothing: the next item may have begun meanwhile."""
    executing = 0 <= death.index < len(known) and known[death.index] is None
    return executing and death.cause is not Cause.BAD_REPLY


def _failure(work: Work, death: Death) -> Failed:
    reason, text = _explain(work, death)
    printed, trace = printed_text(death.printed)
    if printed:
        text = f"{cut_text(text, _OWN_TEXT_BYTES)}\nlast printed:\n{printed}"
    retryable = reason is not Reason.RETURNED_TOO_MUCH
    return Failed(reason, cut_text(text), death.started_ms, death.duration_us, retryable, trace)


def _explain(work: Work, death: Death) -> tuple[Reason, str]:
    if death.cause is Cause.OVERDUE:
        what = "merge()" if work.call is Call.MERGE else "the shard"
        return Reason.TIMED_OUT, f"{what} did not end within {work.limits.wall_s:g} s and was killed"
    if death.cause is Cause.STUCK:
        return Reason.CRASHED, "the child stopped reading its work or sending its answer, and was killed"
    if death.cause is Cause.BAD_REPLY:
        advice = how_to_get_less(work) if death.reason is Reason.RETURNED_TOO_MUCH else ""
        return death.reason, f"the child {death.detail} and was killed{advice}"
    return _by_status(work, death.status)


def _by_status(work: Work, status: int | None) -> tuple[Reason, str]:
    """Explain the death of a child that the supervisor did not kill."""
    if status is None:
        return Reason.CRASHED, "the child ended; its wait status is unknown"
    code = os.waitstatus_to_exitcode(status)
    if code == CHANNEL_LOST:
        return Reason.CRASHED, "closed the channel that the child answers on (os.closerange or similar)"
    if code >= 0:
        return Reason.EXITED, f"left the process with exit code {code} (os._exit or similar)"
    if -code == signal.SIGXCPU and work.limits.cpu_s is not None:
        return Reason.CPU_TIME, f"the shard used more than {work.limits.cpu_s} s of CPU time and was killed"
    if -code == signal.SIGKILL and work.limits.memory_bytes is not None:
        return Reason.OUT_OF_MEMORY, "the child was killed by SIGKILL; most likely the machine ran out of memory"
    hint = "; perhaps the machine ran out of memory" if -code == signal.SIGKILL else ""
    return Reason.CRASHED, f"the child was killed by {_signal_name(-code)}{hint}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
