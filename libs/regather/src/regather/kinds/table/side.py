"""The side table of a job: read once, before the cut; then each shard carries it before its rows.

Theory of operation ------------------- A child reads the whole side table before any shard exists: the child that
inspects the body's head, or the one that cuts a file. So a wrong side table refuses the job, and all shards have the
same one. Its types come from all of its rows, by the same rules as those of the table, since both go through the same
splitter, sampling and casts. The columns that the job reads, packed as an Arrow stream, are the plan's second line on
the way to the gateway. The gateway puts them before each shard's rows; `RowSpan.header_bytes` says where the rows
begin. A retry, a redrive, a dead letter and the search for bad rows need nothing else. ADR 0028 has the alternatives.

What a client can cost others is limited before it is spent: the size of the file, its inflated size, the size of
Parquet's values, the room that is left for rows, and the share of all records that the copies take.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar

from regather.core.errors import BadInput, BadRequest
from regather.core.sharding import MAX_SHARD_BYTES
from regather.kinds.table.aggregates import check_own_names
from regather.kinds.table.engine import Engine, quoted
from regather.kinds.table.merging import packed
from regather.kinds.table.options import SidedOptions, SideOptions
from regather.kinds.table.plan import JSON_BYTES, Column, Plan, Reading, RowUse, SidePlan, low_names
from regather.kinds.table.side_room import MIN_ROWS_BYTES
from regather.kinds.table.side_source import IT, about_side, opened
from regather.processors.base import Side

OptionsT = TypeVar("OptionsT", bound=SidedOptions)


Use = Callable[[Engine, OptionsT, Plan], RowUse]
"""Checks options against a plan and returns what the job does with rows."""


def sided(engine: Engine, options: OptionsT, plan: Plan, side: Side | None, use_of: Use[OptionsT]) -> Reading:
    """Return the plan with the side table; BadRequest or BadInput if options, table and side table do not fit."""
    if side is None:
        return Reading(plan, use_of(engine, options, plan))
    with about_side():
        table = opened(side, options.side)
    columns = _renamed(table.columns, options.side)
    try:
        use = use_of(engine, options, replace(plan, side=SidePlan(columns, table.rows)))
    except BadRequest:  # malformed rows may be why types do not fit, so they are reported first
        with about_side():
            table.read(low_names(table.columns[:1]))
        raise
    kept = [index for index, column in enumerate(columns) if column.name.lower() in use.side_names]
    with about_side():
        rows = table.read(low_names(table.columns[index] for index in kept))
    columns = tuple(columns[index] for index in kept)
    rows = rows.rename_columns([column.name for column in columns]).combine_chunks()
    content = packed(rows)
    if len(content) > MAX_SHARD_BYTES - MIN_ROWS_BYTES:
        raise BadInput(
            f"{IT}: the {len(columns)} columns that the job reads of its {table.rows} rows take {len(content)} bytes; a "
            f"shard carries them in front of its rows, and of its {MAX_SHARD_BYTES} bytes {MIN_ROWS_BYTES} are for rows",
            code="side-too-large",
        )
    return Reading(replace(plan, side=_measured(engine, columns, rows, use)), use, content)


def _measured(engine: Engine, columns: tuple[Column, ...], rows: Any, use: RowUse) -> SidePlan:
    """Return the plan of these rows, with about how many of them match a row of the table, and the size of each."""
    keys = ", ".join(quoted(column.name) for column in columns if column.name.lower() in use.side_keys)
    if not keys or not rows.num_rows:
        return SidePlan(columns, rows.num_rows)
    with engine.arrow("side_rows", rows):
        different = int(engine.run(f"SELECT count(*) FROM (SELECT DISTINCT {keys} FROM side_rows)")[0][0])
    row_bytes = sum(len(column.name.encode()) + JSON_BYTES for column in columns) + rows.nbytes // rows.num_rows
    return SidePlan(columns, rows.num_rows, -(-rows.num_rows // different), row_bytes if use.side_values else 0)


def _renamed(columns: tuple[Column, ...], options: SideOptions) -> tuple[Column, ...]:
    """Return the columns with the job's names; BadRequest if the options name a column that the side table lacks."""
    for what, names in (("cast", options.cast), ("rename", options.rename)):
        missing = sorted(name for name in names if name.lower() not in {column.name.lower() for column in columns})
        if missing:
            shown = ", ".join(column.name for column in columns[:20]) or "none"
            raise BadRequest(
                f"side: {what}: there is no column {missing[0]!r} in {IT}; there are {shown}", code="no-column"
            )
    new = {old.lower(): name for old, name in options.rename.items()}
    renamed = tuple(replace(one, name=new.get(one.name.lower(), one.name)) for one in columns)
    twice = [name for name, count in Counter(column.name.lower() for column in renamed).items() if count > 1]
    if twice:
        raise BadRequest(f"side: rename: two columns of {IT} would be called {twice[0]!r}", code="bad-option")
    check_own_names((column.name for column in renamed), IT)
    return renamed
