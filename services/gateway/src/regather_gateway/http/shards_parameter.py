"""The parameter `shards` of a redrive: `3,5-9` names the shards 3 and 5 to 9."""

from regather.core.seq_ranges import SeqRanges, count, merged
from regather_gateway.problems import Problem

_MOST_NAMED = 1_000_000


def parse_seqs(text: str) -> SeqRanges:
    """Read `3,5-9` as ranges, ascending and merged; none for an empty text; Problem 422 for anything else."""
    found = merged(_pair(part.strip()) for part in text.split(",") if text.strip())
    if count(found) > _MOST_NAMED:
        raise Problem(422, "bad-shards", f"shards names {count(found)} shards; it may name {_MOST_NAMED}")
    return found


def _pair(part: str) -> tuple[int, int]:
    first, dash, last = part.partition("-")
    last = last if dash else first
    if not _is_range(first, last) or int(first) > int(last):
        raise Problem(422, "bad-shards", f"shards names {part[:40]!r}; it must look like 3,5-9")
    return int(first), int(last)


def _is_range(first: str, last: str) -> bool:
    return all(part.isascii() and part.isdigit() and len(part) < 9 for part in (first, last))
