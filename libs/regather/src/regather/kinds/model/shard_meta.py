"""What a shard of rows says of itself: which rows they are, how they are written, what the first row of the body told.

The splitters' own words (`RowSpan` for text and Arrow, `Band` for arrays) stay as they are. Beside them stand `names`
(keys of the body's first JSON object) or `width` (fields of its first row), so that every shard reads the rows in the
same way, and `picked`, where some rows of a shard run without the others: a row keeps its number.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from regather.core.errors import PermanentError
from regather.kinds.model.options import PredictOptions
from regather.processors.base import Piece, ShardRows
from regather.processors.splitting.row_packer import RowSpan
from regather.processors.splitting.rows import Band

TSV = "tsv"
_PICKED, _NAMES, _WIDTH = "picked", "names", "width"
_MAX_META_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class ShardMeta:
    """`where` is the splitter's word; `ranges` are the rows' numbers, ascending."""

    where: RowSpan | Band
    ranges: Sequence[range]
    names: tuple[str, ...] | None = None
    width: int | None = None

    @classmethod
    def decode(cls, meta: bytes) -> "ShardMeta":
        """Read a shard's `meta`; PermanentError for what is none."""
        try:
            found: dict[str, Any] = json.loads(meta)
            kind = RowSpan if "format" in found else Band
            where = kind(**{field.name: found[field.name] for field in fields(kind) if field.name != _PICKED})
            picked = found.get(_PICKED) or [[where.row0, where.row0 + where.rows]]
            names = found.get(_NAMES)
            width = None if isinstance(where, Band) else found.get(_WIDTH)
            return cls(where, [range(*pair) for pair in picked], None if names is None else tuple(names), width)
        except (ValueError, TypeError, KeyError) as error:
            raise PermanentError("a shard does not say which rows it holds: it was not cut for this kind") from error


def with_first_row(piece: Piece, names: Sequence[str] | None, width: int | None) -> Piece:
    """Return the piece with what the body's first row told; as it is where that would make `meta` too large."""
    told: dict[str, object] = {}
    if names is not None:
        told[_NAMES] = list(names)
    if width is not None:
        told[_WIDTH] = width
    meta = json.dumps(json.loads(piece.meta) | told, separators=(",", ":")).encode()
    return replace(piece, meta=meta) if told and len(meta) <= _MAX_META_BYTES else piece


def delimiter_of(span: RowSpan, options: PredictOptions) -> str:
    """Return what stands between a shard's fields; the media type of tab-separated values says it without an option."""
    return "\t" if span.format == TSV else options.delimiter


class NumberedRows:
    """A shard's rows of which some are picked: `meta` then says which, so that each keeps its number."""

    def __init__(self, rows: ShardRows, meta: bytes) -> None:
        self._rows = rows
        self._meta: dict[str, object] = json.loads(meta)

    @property
    def numbers(self) -> range:
        """The rows' numbers in the whole body."""
        return self._rows.numbers

    def pick(self, keep: Sequence[range]) -> Piece:
        """Return the same shard with these rows alone."""
        piece = self._rows.pick(keep)
        meta = self._meta | json.loads(piece.meta) | {_PICKED: [[rows.start, rows.stop] for rows in keep]}
        return replace(piece, meta=json.dumps(meta, separators=(",", ":")).encode())
