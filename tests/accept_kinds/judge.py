"""The judge: what an answer is worth, given what is right. Pure: no clock, no network.

An answer is `equal`, `refused_rightly`, `wrong` (it differs; or an everyday file is refused; or the refusal gives a
cause or names a row that is not true, or is no refusal but a fault of the server), or `silent` (it succeeded where it
had to refuse). Beside that, a shard that was tried again although its failure was certain counts by itself.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from accept_kinds.case import Either, Equal, Partial, Refusal, Want
from accept_kinds.compare import difference, short

EQUAL, REFUSED, WRONG, SILENT = "equal", "refused_rightly", "wrong", "silent"
_CERTAIN = frozenset({"permanent", "returned-too-much", "unreadable"})
_NEVER_SHOWN = re.compile(
    r"Traceback \(most|File \"|site-packages|(?<![\w.:/])/(usr|tmp|home|opt|root|var|srv|mnt)/|\bat 0x[0-9a-f]{6}"
)
_REFUSALS = frozenset({400, 413, 415, 422})
_NOT_THE_FILE = re.compile(r"unknown kind|option '[^']*' is unknown|unknown parameter", re.IGNORECASE)
"""Refusals that say nothing about the file or the expression: the case asks for what the product does not have."""

_ROW = re.compile(r"\brow (\d+)")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back over HTTP. `document` is the job's, or the problem of a refusal; `shards` is its /shards."""

    status: int
    document: Mapping[str, Any] = field(default_factory=dict)
    result: bytes | None = None
    shards: Sequence[Mapping[str, Any]] = ()

    @property
    def state(self) -> str:
        """The job's end, or "refused" where there is no job."""
        return str(self.document.get("state", "refused"))

    @property
    def text(self) -> str:
        """Everything that the answer says about what went wrong."""
        told = [self.document.get(name) for name in ("title", "detail", "error")]
        told += [entry.get("error") for entry in self.document.get("errors", ())]
        return " | ".join(str(part) for part in told if part)

    @property
    def rows(self) -> frozenset[int]:
        """The rows that the answer names as bad: of each error its own `row`, or else the first that its text names."""
        entries = list(self.document.get("errors", ()))
        texts = [str(entry.get("error", "")) for entry in entries if entry.get("row") is None]
        texts += [] if entries else [str(self.document.get("detail") or self.document.get("error") or "")]
        found = [_ROW.search(text) for text in texts]
        named = [int(match[1]) for match in found if match]
        return frozenset(named) | frozenset(entry["row"] for entry in entries if entry.get("row") is not None)


@dataclass(frozen=True, slots=True)
class AnswerVerdict:
    """What an answer is worth, and for a bad one what was wanted and what came."""

    word: str
    wanted: str = ""
    got: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing is to be mended."""
        return self.word in (EQUAL, REFUSED)


def judge(want: Want, answer: Answer) -> AnswerVerdict:
    """Return the verdict on one answer."""
    if isinstance(want, Either):
        return judge(want.equal, answer) if answer.result is not None else judge(want.refusal, answer)
    if isinstance(want, Partial):
        return _judge_partial(want, answer)
    if isinstance(want, Refusal):
        return _judge_refusal(want, answer)
    if answer.state != "succeeded" or answer.result is None:
        return AnswerVerdict(WRONG, f"succeeded with {_wanted(want)}", _told(answer))
    return _judge_value(want, answer.result)


def retried_though_certain(answer: Answer) -> list[str]:
    """The shards that ran again after a failure that could only repeat itself: one word on each."""
    found = []
    for shard in answer.shards:
        failures = list(shard.get("failures", ()))
        again = shard.get("attempts", 0) > 1
        certain = [failure for failure in failures if failure["reason"] in _CERTAIN]
        alike = len(failures) > 1 and len({(f["reason"], f["error"]) for f in failures}) == 1
        if again and (certain or (alike and failures[0]["reason"] == "raised")):
            first = (certain or failures)[0]
            found.append(
                f"shard {shard['seq']}: {shard['attempts']} attempts, {first['reason']}: {str(first['error'])[:200]}"
            )
    return found


def _judge_value(want: Equal, result: bytes) -> AnswerVerdict:
    told = difference(want, result)
    return AnswerVerdict(EQUAL) if told is None else AnswerVerdict(WRONG, _wanted(want), told)


def _judge_partial(want: Partial, answer: Answer) -> AnswerVerdict:
    wanted = f"partial without the rows {sorted(want.rows)}"
    if answer.state == "succeeded":
        return AnswerVerdict(SILENT, wanted, "succeeded")
    if answer.state != "partial" or answer.result is None:
        return AnswerVerdict(WRONG, wanted, _told(answer))
    named = frozenset(entry["row"] for entry in answer.document.get("errors", ()))
    if named != want.rows:
        return AnswerVerdict(WRONG, wanted, f"the rows {sorted(named, key=str)} are named")
    return _judge_value(want.rest, answer.result)


def _judge_refusal(want: Refusal, answer: Answer) -> AnswerVerdict:
    wanted = f"a refusal: {want.why}"
    if answer.state in ("succeeded", "partial"):
        return AnswerVerdict(SILENT, wanted, f"{answer.state}: {short(answer.result or b'')}")
    fault = _fault(answer)
    if fault is not None:
        return AnswerVerdict(WRONG, wanted, fault)
    if want.rows is not None and not (answer.rows <= want.rows and (answer.rows or want.unnamed)):
        named = sorted(answer.rows) or "none"
        return AnswerVerdict(
            WRONG, f"{wanted}; bad rows {sorted(want.rows)[:10]}", f"names row {named}: {_told(answer)}"
        )
    if want.says and not re.search(want.says, answer.text, re.IGNORECASE):
        return AnswerVerdict(WRONG, f"{wanted}; the refusal says /{want.says}/", _told(answer))
    if want.never and re.search(want.never, answer.text, re.IGNORECASE):
        return AnswerVerdict(WRONG, f"{wanted}; the refusal does not say /{want.never}/", _told(answer))
    return AnswerVerdict(REFUSED)


def _fault(answer: Answer) -> str | None:
    """Why this is no refusal, though there is no result: the server failed, or the words are not the user's."""
    leak = _NEVER_SHOWN.search(answer.text)
    if leak is not None:
        return f"the refusal shows the server's inside ({leak[0]!r}): {answer.text[:400]}"
    if _NOT_THE_FILE.search(answer.text):
        return f"the request is refused, not the file: {_told(answer)}"
    if answer.status in _REFUSALS:
        return None
    if answer.state != "failed":
        return _told(answer)
    reasons = {entry.get("reason") for entry in answer.document.get("errors", ())} or {answer.document.get("reason")}
    if reasons <= {"permanent", "not-sealed"}:
        return None
    return f"a failure and no refusal: {_told(answer)}"


def _wanted(want: Equal) -> str:
    return short(want.values[0], 300)


def _told(answer: Answer) -> str:
    reason = answer.document.get("reason") or answer.document.get("code") or ""
    return f"HTTP {answer.status}, {answer.state} {reason}: {answer.text[:400]}"
