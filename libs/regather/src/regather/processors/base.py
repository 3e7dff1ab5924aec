"""What a plug-in is: how one kind of job is cut, processed and merged.

A processor is found by the entry-point group `regather.processors`; its name is the kind. `splitter` runs in the
gateway while the body arrives and must only move bytes; `inspect`, `process` and `merge` run in killable children.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Base of a processor's options: unknown names are refused, and so are NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


HEAD_BYTES = 1024
"""So much of a body is known when its splitter is made."""

OptionsT = TypeVar("OptionsT", bound=Options)

DATA_ERRORS: tuple[type[Exception], ...] = (
    ArithmeticError, AssertionError, AttributeError, BufferError, LookupError, RecursionError, TypeError, ValueError,
)  # fmt: skip
"""What code raises for data that it does not take, where it depends on the data alone. UnicodeError is a ValueError."""


@dataclass(frozen=True, slots=True)
class Extra:
    """What a kind needs beside its own package: `install` is what pip is told, such as `regather[table]`.

    `modules` are the top-level modules that its children import. They are looked for and not imported: a service offers
    the kind only where all of them are there.
    """

    install: str
    modules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """One shard as the splitter cuts it: its bytes, and what `process` must know of it (JSON bytes or empty)."""

    payload: bytes
    meta: bytes = b""


@dataclass(frozen=True, slots=True)
class Side:
    """A second, small file that came with the body: its bytes, and the media type that the client gave."""

    content: bytes
    content_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class SplitRequest:
    """What the client asked of the cut.

    `shard_size_bytes` is a target between 1,024 and 10,485,760; `shards` asks for that many even shards instead and
    needs `size_bytes`, the length of the body if the client told it; `content_type` is the body's. `head` is how the
    body begins (HEAD_BYTES of it, fewer if it is shorter), None while only the request is checked and no byte is here.
    `max_bytes` is the most that a compressed body may inflate to, `max_result_bytes` the most that the job's result may
    have: a kind that can tell the size of a result refuses a larger one. `plan` is what inspect() returned about this
    body, empty for kinds that do not inspect. `side` is the form's second file, for kinds that take one (`side_bytes`).
    """

    shard_size_bytes: int | None = None
    shards: int | None = None
    size_bytes: int | None = None
    content_type: str = "application/octet-stream"
    head: bytes | None = None
    max_bytes: int | None = None
    max_result_bytes: int | None = None
    plan: bytes = b""
    side: Side | None = None


@dataclass(frozen=True, slots=True)
class ShardView:
    """What `process` gets: the shard's bytes, the splitter's word about it, and which one it is."""

    payload: bytes
    meta: bytes
    seq: int
    attempt: int


class ShardRows(Protocol):
    """A shard as rows that do not depend on each other, so that a bad one can be told from the others."""

    @property
    def numbers(self) -> range:
        """The rows' numbers in the whole body, which errors use, too."""

    def pick(self, keep: Sequence[range]) -> Piece:
        """Return the same shard with these rows alone; `keep` are ascending ranges of `numbers`, at least one row."""


class Splitter(Protocol):
    """Cuts a body that arrives in chunks of any size. Raises BadInput with where and why."""

    def feed(self, data: bytes) -> Iterable[Piece]:
        """Take the next bytes of the body; the pieces that are complete now."""

    def finish(self) -> Iterable[Piece]:
        """The body has ended; the pieces that are left. At least one piece in all, or BadInput."""


@runtime_checkable
class FileSplitter(Protocol):
    """Cuts a body that must be there as a whole: an index at its end, rows that have to be decoded.

    The gateway spools such a body to a file and runs cut() in a killable child, so it may decode.
    """

    def cut(self, path: Path) -> Iterator[Piece]:
        """Yield the file's pieces in order; at least one, or BadInput."""


@runtime_checkable
class ArrivingFileSplitter(FileSplitter, Protocol):
    """A FileSplitter of a format of which some files can be cut while they arrive, as their beginning shows.

    Processor.inspect() gets so much of the body. A plan makes the kind's splitter() be called again, with `request.plan`,
    for a Splitter that cuts the body while it arrives; an empty plan says that the body must be there as a whole.
    """

    @property
    def inspect_bytes(self) -> int:
        """How much of the body inspect() is given; 0 if this body is not worth it."""


class Processor(ABC, Generic[OptionsT]):
    """One kind of job. Instances are stateless; `options` is what `options_model` made of the client's options."""

    options_model: ClassVar[type[Options]] = Options
    result_type: ClassVar[str] = "application/json"
    """Media type of the result."""

    chained: ClassVar[bool] = False
    """True: shards run one after the other, each with what the one before it carried over; step() instead of process()."""

    inspect_bytes: ClassVar[int] = 0
    """Above 0: inspect() is called with so much of the body (less if it is shorter) before a splitter cuts it."""

    side_bytes: ClassVar[int] = 0
    """Above 0: a form may bring a second file, `side`, of at most so many bytes; inspect() or the cut gets it whole.

    Only what the plan or the pieces carry of it reaches the shards.
    """

    result_examples: ClassVar[Sequence[Mapping[str, object]]] = ()
    """Options that change the result's media type, for GET /v1/kinds; an option of few values is found alone.

    Where some options are required, the first example has them.
    """

    extra: ClassVar[Extra | None] = None
    """What must be installed beside the plug-in; without it the kind is listed as not installed and no job is taken."""

    certain: ClassVar[tuple[type[Exception], ...]] = ()
    """Errors of process(), step(), merge() and the cut that come from the data alone: another attempt must fail, too.

    They count as a PermanentError does: never retried, the client is told that its data is at fault. A kind that neither
    reads nor asks anything but its shard says DATA_ERRORS; a kind that calls other services says nothing and is retried.
    MemoryError and OSError are never certain.
    """

    merges: ClassVar[bool] = True
    """False: the result is the outputs in order, joined; merge() is never called."""

    gaps: ClassVar[bool] = True
    """False: outputs are not joined where one is missing; merge() is called instead and says why there is no result."""

    @abstractmethod
    def splitter(self, options: OptionsT, request: SplitRequest) -> Splitter | FileSplitter:
        """Make a fresh splitter for one submission; BadRequest for a cut that cannot be.

        Called once to check the request, before any byte of the body has come, and once with the body's `head`.
        """

    def inspect(self, head: bytes, options: OptionsT, request: SplitRequest) -> bytes:
        """Look at the body's beginning in a killable child; the returned plan reaches the splitter as `request.plan`.

        `request.side` is the side file. Of bodies that a FileSplitter cuts it is asked only if that is an
        ArrivingFileSplitter. BadRequest or BadInput refuses the job before anything is sent.
        """
        raise NotImplementedError(f"{type(self).__name__} sets inspect_bytes but has no inspect()")

    def process(self, shard: ShardView, options: OptionsT) -> bytes:
        """Return the output of one shard. Pure: the same shard gives the same bytes. PermanentError is not retried."""
        raise NotImplementedError(f"{type(self).__name__} has no process()")

    def rows(self, shard: ShardView, options: OptionsT) -> ShardRows | None:
        """Return the shard as rows, so that bad rows do not cost the good ones their result; None if it has none.

        Asked with on_error=skip about a shard that failed for good. Must not interpret the rows, which may be bad.
        """
        return None

    def step(self, shard: ShardView, carry: bytes, options: OptionsT) -> tuple[bytes, bytes]:
        """Return the output of one shard of a chain and the carry for the next one; shard 0 begins with b"".

        Pure, too. Output and carry together have at most 10 MiB.
        """
        raise NotImplementedError(f"{type(self).__name__} sets chained = True but has no step()")

    def merges_outputs(self, options: OptionsT) -> bool:
        """Whether merge() makes the result; for kinds where that depends on the options."""
        return self.merges

    def media_type(self, options: OptionsT) -> str:
        """Return the media type of the result; for kinds where that depends on the options."""
        return self.result_type

    def merge(self, outputs: Sequence[bytes | None], options: OptionsT) -> bytes:
        """Return a job's result from its outputs in sequence order; None stands where a shard failed for good."""
        raise NotImplementedError(f"{type(self).__name__} sets merges = True but has no merge()")
