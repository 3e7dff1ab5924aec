"""What a case is: a body, what is asked of it, and how to find out what is right."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from accept_kinds.oracles import OracleRefused


@dataclass(frozen=True, slots=True)
class Equal:
    """The answer must be one of `values`; `compare` (see compare.py) reads the answer's bytes and tells what differs."""

    compare: str
    values: tuple[object, ...]
    tolerances: Mapping[str, float] = field(default_factory=dict)
    """Relative difference that is allowed, by column; no entry: none."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The body must be refused: a 4xx, or a failed job whose error is true.

    `rows`: the rows that are bad; the refusal names at least one of them (unless `unnamed`) and no other. None: whatever
    row is named is not looked at. `says` and `never` are regular expressions that the refusal has to match, and must not.
    """

    why: str
    rows: frozenset[int] | None = None
    says: str = ""
    never: str = ""
    unnamed: bool = False


@dataclass(frozen=True, slots=True)
class Partial:
    """With on_error=skip: the state is `partial`, exactly `rows` are named, and the rest is equal."""

    rows: frozenset[int]
    rest: Equal


@dataclass(frozen=True, slots=True)
class Either:
    """A file that programs disagree about, or a format that need not be taken: equal, or refused as stated."""

    equal: Equal
    refusal: Refusal


Want = Equal | Refusal | Partial | Either


@dataclass(frozen=True, slots=True)
class Case:
    """One file with one set of options. `body` and `want` are called once, when the case is run.

    `sizes` limits the shard sizes at which it is tried (None: all); `fast` puts it into the short form. `side` is the
    form's side file, sent ahead of the body.
    """

    name: str
    kind: str
    body: Callable[[], bytes]
    want: Callable[[], Want]
    options: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/octet-stream"
    on_error: str = "fail"
    sizes: tuple[str, ...] | None = None
    fast: bool = False
    side: Callable[[], bytes] | None = None

    @property
    def group(self) -> str:
        """What ONLY= chooses by: the first part of the name's path."""
        return self.name.partition("/")[0]


class OracleDisagrees(AssertionError):
    """The suite says that a file is bad, and the independent program reads it, or the other way round."""


def refused(oracle: Callable[[], object], refusal: Refusal) -> Refusal:
    """Return the refusal after the oracle has confirmed that the file is bad; OracleDisagrees if it reads it."""
    try:
        found = oracle()
    except OracleRefused:
        return refusal
    raise OracleDisagrees(f"the oracle reads a file that should be bad ({refusal.why}): {str(found)[:200]}")


def as_oracle_says(oracle: Callable[[], Equal], why: str, says: str = "") -> Want:
    """Damage whose effect the oracle decides: what it reads must be equal, what it refuses must be refused."""
    try:
        return oracle()
    except OracleRefused as error:
        return Refusal(f"{why}: {error}", None, says)
