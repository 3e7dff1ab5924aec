"""The plug-in contract: how one kind of job is cut, processed and merged.

Plug-ins register a processor under the entry-point group `regather.processors`; the entry point's name is the kind.
`splitter` runs in the gateway while the body arrives and must only move bytes. `inspect`, `process`, `step` and `merge`
run in killable children.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, Protocol, TypeVar, runtime_checkable

from pydantic import BaseModel, ConfigDict


class Options(BaseModel):
    """Base class of a processor's options: rejects unknown names, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


HEAD_BYTES = 1024
"""How much of a body's beginning the splitter gets when it is made, in bytes."""

OptionsT = TypeVar("OptionsT", bound=Options)

DATA_ERRORS: tuple[type[Exception], ...] = (
    ArithmeticError, AssertionError, AttributeError, BufferError, LookupError, RecursionError, TypeError, ValueError,
)  # fmt: skip
"""Exceptions that data alone can cause, for use as `Processor.certain`. UnicodeError is a ValueError."""


@dataclass(frozen=True, slots=True)
class Extra:
    """Dependencies of a kind beside its own package; `install` is the argument for pip, such as `regather[table]`.

    `modules` are the top-level modules that the kind's children import. A service checks that they exist, without
    importing them, and offers the kind only if all of them do.
    """

    install: str
    modules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Piece:
    """One shard as the splitter cuts it: its bytes, and metadata for `process` (JSON bytes, or empty)."""

    payload: bytes
    meta: bytes = b""


@dataclass(frozen=True, slots=True)
class Side:
    """The second, small file of a request: its bytes and the media type that the client gave."""

    content: bytes
    content_type: str = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class SplitRequest:
    """How the client wants the body cut, and what is known of the body.

    - `shard_size_bytes`: target size of a shard, between 1,024 and 10,485,760.
    - `shards`: cut into this many even shards instead; needs `size_bytes`.
    - `size_bytes`: length of the body, if the client announced it.
    - `content_type`: media type of the body.
    - `head`: the body's first HEAD_BYTES bytes (all of it if it is shorter); None while only the request is checked and
      no byte has arrived.
    - `max_bytes`: limit for the inflated size of a compressed body.
    - `max_result_bytes`: limit for the job's result. A kind that can compute the size of its result refuses a larger
      one.
    - `plan`: what inspect() returned for this body; empty for kinds that do not inspect.
    - `side`: the form's second file, for kinds that accept one (`side_bytes`).
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
    """Input of `process`: the shard's bytes, the splitter's metadata, the sequence number and the attempt, from 0."""

    payload: bytes
    meta: bytes
    seq: int
    attempt: int


class ShardRows(Protocol):
    """A shard as rows that are independent of each other, so that bad rows can be separated from good ones."""

    @property
    def numbers(self) -> range:
        """Numbers of the rows in the whole body. Error messages use the same numbers."""

    def pick(self, keep: Sequence[range]) -> Piece:
        """Return the same shard with only these rows; `keep` are ascending ranges of `numbers`, at least one row."""


class Splitter(Protocol):
    """Cuts a body that arrives in chunks of any size. Raises BadInput, which says where the body is wrong and why."""

    def feed(self, data: bytes) -> Iterable[Piece]:
        """Accept the next bytes of the body and return the pieces that are now complete."""

    def finish(self) -> Iterable[Piece]:
        """Accept the end of the body and return the remaining pieces; BadInput if the body yields no piece at all."""


@runtime_checkable
class FileSplitter(Protocol):
    """Cuts a body that must be complete first: its index is at the end, or its rows have to be decoded.

    The gateway spools such a body to a file and runs cut() in a killable child, so cut() may decode.
    """

    def cut(self, path: Path) -> Iterator[Piece]:
        """Yield the file's pieces in order; BadInput if there is none."""


@runtime_checkable
class ArrivingFileSplitter(FileSplitter, Protocol):
    """A FileSplitter for a format of which some files can be cut while they arrive; their beginning shows which.

    Processor.inspect() gets the first `inspect_bytes` of the body. If it returns a plan, the gateway calls the kind's
    splitter() again with `request.plan` and gets a Splitter that cuts the arriving body. If the plan is empty, the
    gateway spools the body to a file.
    """

    @property
    def inspect_bytes(self) -> int:
        """How many bytes of the body inspect() gets; 0 skips inspect() for this body."""


class Processor(ABC, Generic[OptionsT]):
    """One kind of job. Instances are stateless; `options` is the client's options, validated by `options_model`."""

    options_model: ClassVar[type[Options]] = Options
    result_type: ClassVar[str] = "application/json"
    """Media type of the result."""

    chained: ClassVar[bool] = False
    """True: shards run one after the other through step(), not process(); each gets the carry of the one before it."""

    inspect_bytes: ClassVar[int] = 0
    """Above 0: inspect() gets this many bytes of the body (all of a shorter body) before a splitter cuts it."""

    side_bytes: ClassVar[int] = 0
    """Above 0: a form may have a second file, `side`, of at most this many bytes; inspect() or the cut gets all of it.

    Shards get only what the plan or the pieces carry of it.
    """

    result_examples: ClassVar[Sequence[Mapping[str, object]]] = ()
    """Options that change the result's media type, for GET /v1/kinds.

    Options with few possible values (bool, Literal) need no example; the gateway tries each value. If some options are
    required, the first example must give them.
    """

    extra: ClassVar[Extra | None] = None
    """Optional dependencies. While they are missing, GET /v1/kinds lists the kind as not installed and no job is taken."""

    certain: ClassVar[tuple[type[Exception], ...]] = ()
    """Exceptions of process(), step(), merge() and the cut that depend on the data alone, so a retry cannot succeed.

    They are handled like PermanentError: no retry, and the client is told that its data is at fault. Use DATA_ERRORS
    for a kind that reads nothing but its shard. Leave it empty for a kind that calls other services: its errors are
    retried. MemoryError and OSError are never certain.
    """

    merges: ClassVar[bool] = True
    """False: the result is the concatenation of the outputs in order; merge() is not called."""

    gaps: ClassVar[bool] = True
    """False: if an output is missing, merge() is called instead of concatenating, and says why there is no result."""

    @abstractmethod
    def splitter(self, options: OptionsT, request: SplitRequest) -> Splitter | FileSplitter:
        """Make a new splitter for one submission; BadRequest if the requested cut is impossible.

        Called once to check the request, before any byte of the body has arrived, and again with the body's `head`.
        """

    def inspect(self, head: bytes, options: OptionsT, request: SplitRequest) -> bytes:
        """Examine the body's beginning in a killable child and return a plan; the splitter gets it as `request.plan`.

        `request.side` is the side file. For a body that a FileSplitter cuts, inspect() is called only if the splitter
        is an ArrivingFileSplitter. BadRequest or BadInput refuses the job before any shard is sent.
        """
        raise NotImplementedError(f"{type(self).__name__} sets inspect_bytes but has no inspect()")

    def process(self, shard: ShardView, options: OptionsT) -> bytes:
        """Return the output of one shard. Must be deterministic: the same shard gives the same bytes.

        PermanentError is not retried.
        """
        raise NotImplementedError(f"{type(self).__name__} has no process()")

    def rows(self, shard: ShardView, options: OptionsT) -> ShardRows | None:
        """Return the shard as rows, so that its good rows are processed without its bad ones; None if it has no rows.

        Called for a shard that failed for good in a job with on_error=skip. Must not parse the rows, which may be bad.
        """
        return None

    def step(self, shard: ShardView, carry: bytes, options: OptionsT) -> tuple[bytes, bytes]:
        """Return the output of one shard of a chain, and the carry for the next shard; the carry of shard 0 is b"".

        Must be deterministic. Output and carry together have at most 10 MiB.
        """
        raise NotImplementedError(f"{type(self).__name__} sets chained = True but has no step()")

    def merges_outputs(self, options: OptionsT) -> bool:
        """Whether merge() makes the result. Override it if that depends on the options."""
        return self.merges

    def media_type(self, options: OptionsT) -> str:
        """Return the media type of the result. Override it if the type depends on the options."""
        return self.result_type

    def merge(self, outputs: Sequence[bytes | None], options: OptionsT) -> bytes:
        """Return a job's result from its outputs in sequence order; None marks a shard that failed for good."""
        raise NotImplementedError(f"{type(self).__name__} sets merges = True but has no merge()")
