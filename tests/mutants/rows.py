"""What the searches of a mutant came to: caught, or why not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mutants.patches import Mutant


@dataclass(frozen=True, slots=True)
class Row:
    """One mutant. Without `caught_by` it is not caught, and `why` says what happened instead."""

    name: str
    invariant: str
    caught_by: str | None
    seed: int | None
    seconds: float
    violated: Sequence[str] = ()
    why: str = ""

    def as_document(self) -> dict[str, Any]:
        """One element of `rows`."""
        found: dict[str, Any] = {
            "name": self.name,
            "invariant": self.invariant,
            "caught_by": self.caught_by,
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "violated": list(self.violated),
        }
        return found | ({"why": self.why} if self.why else {})


def decide(mutant: Mutant, searches: Sequence[Mapping[str, Any]], seconds: float) -> Row:
    """Judge a mutant by its searches, the last of which found the violation if any did.

    An exception out of the broken code is none, nor is a run of code that is not the mutant's.
    """
    last = searches[-1]
    why = _not_ours(mutant, last)
    if not why and last["seed"] is not None and last["violated"].get(mutant.invariant):
        violated = sorted(last["violated"])
        return Row(mutant.name, mutant.invariant, last["level"], last["seed"], seconds, violated)
    others = sorted({name for search in searches for name in search["violated"]})
    return Row(mutant.name, mutant.invariant, None, None, seconds, others, why or _survived(searches, others))


def broken(mutant: Mutant, why: str, seconds: float) -> Row:
    """A mutant that could not be run to an end."""
    return Row(mutant.name, mutant.invariant, None, None, seconds, why=why)


def document(rows: Sequence[Row], control: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """What `make mutants` prints. `control` is what the unmutated tree violated with the seeds that caught the mutants."""
    survivors = [row.name for row in rows if row.caught_by is None]
    return {
        "ok": bool(rows) and not survivors and not control["violated"] and not control["strangers"],
        "total": len(rows),
        "caught": len(rows) - len(survivors),
        "survivors": survivors,
        "seconds": round(seconds, 1),
        "control": dict(control),
        "rows": [row.as_document() for row in rows],
    }


def _not_ours(mutant: Mutant, search: Mapping[str, Any]) -> str:
    if search["strangers"]:
        return f"code from elsewhere was run: {search['strangers'][:3]}"
    unused = [file for file in mutant.files if file not in search["loaded"]]
    return f"the simulation does not load {unused}" if unused else ""


def _survived(searches: Sequence[Mapping[str, Any]], others: Sequence[str]) -> str:
    tried = ", ".join(f"{search['tried']} seeds of the {search['level']}" for search in searches)
    if not others:
        return f"{tried} violate nothing"
    shown = next(iter(line for search in searches for line in search["shown"]), "")
    return f"{tried} violate {', '.join(others)} and not what the header names; {shown}"
