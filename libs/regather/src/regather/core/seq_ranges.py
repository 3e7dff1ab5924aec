"""Sets of sequence numbers as ascending inclusive ranges: the form that documents and events use."""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

SeqRanges = tuple[tuple[int, int], ...]
"""(first, last) pairs, ascending, without overlap; neighbouring pairs do not touch."""


def ranges(numbers: Iterable[int]) -> SeqRanges:
    """Return ascending numbers as inclusive ranges: 1 2 3 7 gives (1, 3), (7, 7)."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return tuple(found)


def merged(pairs: Iterable[tuple[int, int]]) -> SeqRanges:
    """Return inclusive (first, last) pairs, which may overlap, touch and come in any order, as ranges."""
    found: list[tuple[int, int]] = []
    for first, last in sorted(pairs):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return tuple(found)


def numbers(seqs: SeqRanges) -> Iterator[int]:
    """Yield every number, ascending."""
    for first, last in seqs:
        yield from range(first, last + 1)


def count(seqs: SeqRanges) -> int:
    """Return how many numbers the ranges hold."""
    return sum(last - first + 1 for first, last in seqs)


def contains(seqs: Sequence[tuple[int, int]], number: int) -> bool:
    """Whether a range holds the number."""
    at = bisect_right(seqs, (number, float("inf"))) - 1
    return at >= 0 and number <= seqs[at][1]
