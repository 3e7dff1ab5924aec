"""What a patch says of itself: the words above its first hunk.

    Breaks: a final counts as done as soon as it was sent
    Invariant: I1
    Level: loops
    Seed: 17

`Invariant` is the one that the checker has to find violated. `Level` and `Seed` say where it was found last; without them
it is searched for.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

LEVELS = ("rules", "loops")
MEANT = (*(f"I{number}" for number in range(1, 12)), "VIEW")
"""What a mutant may be meant for. An error that nobody expected is no proof that the checker sees what is wrong."""

_FIELD = re.compile(r"^(Breaks|Invariant|Level|Seed): (.+)$")
_FILE = re.compile(r"^\+\+\+ b/(\S+)$")


class HeaderError(ValueError):
    """The words above a patch do not say what they have to."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One broken build. `files` are those that the patch changes, from the root of the tree."""

    name: str
    breaks: str
    invariant: str
    files: tuple[str, ...]
    level: str | None = None
    seed: int | None = None

    @property
    def levels(self) -> tuple[str, ...]:
        """Where to look for a violation, in this order."""
        return LEVELS if self.level is None else (self.level,)


def parse(name: str, text: str) -> Mutant:
    """Read a patch; HeaderError says what is missing."""
    lines = text.splitlines()
    fields = _fields(_above(lines))
    for needed in ("Breaks", "Invariant"):
        if needed not in fields:
            raise HeaderError(f"{name}: there is no line '{needed}: ...' above the patch")
    invariant, level, seed = fields["Invariant"], fields.get("Level"), fields.get("Seed")
    if invariant not in MEANT:
        raise HeaderError(f"{name}: 'Invariant: {invariant}' is none of {', '.join(MEANT)}")
    if level is not None and level not in LEVELS:
        raise HeaderError(f"{name}: 'Level: {level}' is none of {', '.join(LEVELS)}")
    if seed is not None and (level is None or not seed.isdecimal()):
        raise HeaderError(f"{name}: 'Seed: {seed}' has to be a number, and needs a line 'Level: ...'")
    files = tuple(found.group(1) for line in lines if (found := _FILE.match(line)))
    if not files:
        raise HeaderError(f"{name}: it changes nothing")
    return Mutant(name, fields["Breaks"], invariant, files, level, None if seed is None else int(seed))


def with_seed(text: str, level: str, seed: int) -> str:
    """The patch with another level and seed in its header."""
    lines = text.splitlines()
    above = [line for line in _above(lines) if not line.startswith(("Level: ", "Seed: "))]
    while above and not above[-1].strip():
        above.pop()
    rest = lines[len(_above(lines)) :]
    return "\n".join([*above, f"Level: {level}", f"Seed: {seed}", "", *rest]) + "\n"


def _above(lines: list[str]) -> list[str]:
    at = next((at for at, line in enumerate(lines) if line.startswith(("diff --git ", "--- "))), len(lines))
    return lines[:at]


def _fields(lines: Iterable[str]) -> dict[str, str]:
    found = (_FIELD.match(line) for line in lines)
    return {field.group(1): field.group(2).strip() for field in found if field}
