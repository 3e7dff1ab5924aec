"""The run: every case at every size through one gateway, several in flight, each answer judged when it comes."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from accept_kinds.case import Case, Want
from accept_kinds.http import DEFAULT, ONE
from accept_kinds.judge import EQUAL, REFUSED, SILENT, WRONG, Answer, AnswerVerdict, judge, retried_though_certain

SIZES = ("1024", "4096", "65536", DEFAULT, ONE)
FAST_SIZES = ("4096", DEFAULT)
IN_FLIGHT = 10


class Asks(Protocol):
    """Who answers: the real gateway, or a stand-in of the judge's own tests."""

    async def ask(self, case: Case, body: bytes, size: str) -> Answer:
        """Run one case at one size."""


@dataclass
class Findings:
    """What a run found."""

    words: Counter[str] = field(default_factory=Counter)
    retried: int = 0
    files: int = 0
    groups: dict[str, Counter[str]] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)
    doubtful: list[dict[str, Any]] = field(default_factory=list)
    expressions: dict[str, Any] = field(default_factory=dict)
    lost_answers: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing is to be mended, and every oracle agreed with its case."""
        tried = bool(self.files or self.expressions.get("tried"))
        return tried and not self.failures and not self.doubtful and not self.expressions.get("failures")

    def document(self) -> dict[str, Any]:
        """The report."""
        tried = {name: value for name, value in self.expressions.items() if name != "failures"}
        words = {word: self.words[word] + tried.get(word, 0) for word in (EQUAL, REFUSED, WRONG, SILENT)}
        return {
            "ok": self.ok,
            "cases": sum(words.values()),
            "files": self.files,
            **words,
            "retried_though_certain": self.retried,
            "groups": {name: dict(sorted(words.items())) for name, words in sorted(self.groups.items())},
            "expressions": tried,
            "lost_answers": self.lost_answers,
            "doubtful": self.doubtful,
            "failures": [*self.failures, *self.expressions.get("failures", [])],
        }

    def add(self, case: Case, size: str, verdict: AnswerVerdict, answer: Answer) -> None:
        """Count one verdict, and keep what is to be mended."""
        self.words[verdict.word] += 1
        self.groups.setdefault(case.group, Counter())[verdict.word] += 1
        again = retried_though_certain(answer)
        self.retried += bool(again)
        if not verdict.good or again:
            self.failures.append(
                {
                    "file": case.name,
                    "kind": case.kind,
                    "options": dict(case.options),
                    "size": size,
                    "verdict": verdict.word,
                    "wanted": verdict.wanted,
                    "got": verdict.got,
                    "retried_though_certain": again[:3],
                    "replay": f"make accept-kinds ONLY={case.name} SIZES={size}",
                }
            )


async def run(
    cases: Sequence[Case], sizes: Sequence[str], asked: Asks, on_case: Callable[[Case], None] = lambda case: None
) -> Findings:
    """Judge every case at every size. A case whose own oracle fails is `doubtful`, which fails the run, too."""
    findings = Findings(files=len(cases))
    places = asyncio.Semaphore(IN_FLIGHT)
    ready = asyncio.Semaphore(IN_FLIGHT // 2)  # cases in work: bodies and expectations are kept no longer than that

    async def one(case: Case) -> None:
        async with ready:
            prepared = await asyncio.to_thread(_prepared, case, findings)
            if prepared is None:
                return
            chosen = sizes_of(case, sizes)
            await asyncio.gather(*(_judged(case, *prepared, size, asked, places, findings) for size in chosen))
            on_case(case)

    await asyncio.gather(*map(one, cases))
    return findings


def sizes_of(case: Case, sizes: Sequence[str]) -> Sequence[str]:
    """The sizes that a case is tried at: of those asked for its own, or its first two where none of them is among these."""
    if case.sizes is None:
        return sizes
    return [size for size in sizes if size in case.sizes] or case.sizes[:2]


def _prepared(case: Case, findings: Findings) -> tuple[bytes, Want] | None:
    try:
        return case.body(), case.want()
    except Exception as error:  # whatever an oracle stumbles over is told, and the other cases go on
        findings.doubtful.append({"file": case.name, "error": f"{type(error).__name__}: {error}"[:500]})
        return None


async def _judged(
    case: Case, body: bytes, want: Want, size: str, asked: Asks, places: asyncio.Semaphore, findings: Findings
) -> None:
    async with places:
        try:
            answer = await asked.ask(case, body, size)
        except Exception as error:  # a lost connection is an answer, too: a wrong one
            findings.add(case, size, AnswerVerdict(WRONG, "an answer", f"{type(error).__name__}: {error}"), Answer(0))
            return
        verdict = await asyncio.to_thread(judge, want, answer)
        findings.add(case, size, verdict, answer)
