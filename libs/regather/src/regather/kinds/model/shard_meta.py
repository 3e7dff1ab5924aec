"""A shard's meta: which rows it has, how they are written, and what the body's first row looks like.

The splitters' own fields (`RowSpan` for text and Arrow, `Band` for arrays) are unchanged. Beside them are `names` (keys
of the body's first JSON object) or `width` (number of fields of its first row), and `lists` (how many values its lists
have, None for a null), so that every shard reads the rows in the same way. `picked` is there if some rows of a shard
run without the others, so that a row keeps its number.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from regather.core.errors import PermanentError
from regather.kinds.model.options import PredictOptions
from regather.processors.base import Piece, ShardRows
from regather.processors.splitting.row_packer import RowSpan
from regather.processors.splitting.rows import Band

TSV = "tsv"
_PICKED, _NAMES, _WIDTH, _LISTS = "picked", "names", "width", "lists"
_MAX_META_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class ShardMeta:
    """`where` is the splitter's own meta; `ranges` are the rows' numbers, ascending."""

    where: RowSpan | Band
    ranges: Sequence[range]
    names: tuple[str, ...] | None = None
    width: int | None = None
    lists: Mapping[str, int | None] = field(default_factory=dict)

    def values_of(self, name: str) -> int | None:
        """Return how many values this column has in the body's first row; None if that is unknown."""
        there = name in self.names if self.names is not None else self.width is not None
        return self.lists.get(name, 1 if there else None)

    @classmethod
    def decode(cls, meta: bytes) -> "ShardMeta":
        """Parse a shard's `meta`; PermanentError if it is invalid."""
        try:
            found: dict[str, Any] = json.loads(meta)
            kind = RowSpan if "format" in found else Band
            where = kind(**{field.name: found[field.name] for field in fields(kind) if field.name != _PICKED})
            picked = found.get(_PICKED) or [[where.row0, where.row0 + where.rows]]
            names = found.get(_NAMES)
            width = None if isinstance(where, Band) else found.get(_WIDTH)
            ranges = [range(*pair) for pair in picked]
            return cls(where, ranges, None if names is None else tuple(names), width, found.get(_LISTS) or {})
        except (ValueError, TypeError, KeyError) as error:
            raise PermanentError(
                "the shard's meta does not say which rows it has: it was not cut for this kind"
            ) from error


@dataclass(frozen=True, slots=True)
class FirstRow:
    """What the body's first good row looks like; ShardMeta describes the fields."""

    names: Sequence[str] | None = None
    width: int | None = None
    lists: Mapping[str, int | None] = field(default_factory=dict)


def with_first_row(piece: Piece, row: FirstRow) -> Piece:
    """Return the piece with the body's first row in its `meta`; unchanged if that would make `meta` too large."""
    told: dict[str, object] = {}
    if row.names is not None:
        told[_NAMES] = list(row.names)
    if row.width is not None:
        told[_WIDTH] = row.width
    if row.lists:
        told[_LISTS] = dict(row.lists)
    meta = json.dumps(json.loads(piece.meta) | told, separators=(",", ":")).encode()
    return replace(piece, meta=meta) if told and len(meta) <= _MAX_META_BYTES else piece


def delimiter_of(span: RowSpan, options: PredictOptions) -> str:
    """Return the delimiter of a shard's fields; the media type of tab-separated values implies it without an option."""
    return "\t" if span.format == TSV else options.delimiter


class NumberedRows:
    """Rows of a shard, some of which can be picked: `meta` then says which, so that each keeps its number."""

    def __init__(self, rows: ShardRows, meta: bytes) -> None:
        self._rows = rows
        self._meta: dict[str, object] = json.loads(meta)

    @property
    def numbers(self) -> range:
        """Numbers of the rows in the whole body."""
        return self._rows.numbers

    def pick(self, keep: Sequence[range]) -> Piece:
        """Return the same shard with only these rows."""
        piece = self._rows.pick(keep)
        meta = self._meta | json.loads(piece.meta) | {_PICKED: [[rows.start, rows.stop] for rows in keep]}
        return replace(piece, meta=json.dumps(meta, separators=(",", ":")).encode())


def list_widths(row: Mapping[str, object]) -> dict[str, int | None]:
    """Return how many values each list of a row has; None for a null, which may stand for any list."""
    return {name: _leaves(value) for name, value in row.items() if value is None or isinstance(value, list)}


def _leaves(value: object) -> int | None:
    if not isinstance(value, list):
        return None if value is None else 1
    return sum(1 if part is None else _leaves(part) or 0 for part in value)
