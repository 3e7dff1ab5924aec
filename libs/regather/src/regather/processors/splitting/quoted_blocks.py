"""Finds where the rows of a block with quotes end, for the whole block at once, with array operations.

A block begins with a row. Count its quotes from there: odd quotes open, even quotes close, and a byte is inside quotes
if the number of quotes up to it is odd. The row grammar reads the block in the same way as long as

- each opening quote is at the block's beginning, or follows a delimiter, a line end or a closing quote,
- each closing quote precedes a delimiter, a line end or an opening quote.

A closing quote and an opening quote next to each other are a doubled quote: the field goes on, so both readings agree.
Any other quote (`5" pipe`, a space before it, bytes after it) is where this proof ends; the grammar reads on from the
last row end before it. Comments need no special care. A comment ends at its first line end, and the proof ends the row
there too unless a quote is open. If one is open, the proof ends at that line end; only in a dialect without comments
may such a line end be data.

Each byte of the block is one bit here, 64 to a word, so everything after the four comparisons is cheap. This is the
only module that needs NumPy outside of children; it is imported when the first large block arrives (ADR 0027).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint64]
Flags = NDArray[np.bool_]
_LF, _CR = 0x0A, 0x0D
_WORD_BITS = 64
_ONE, _LAST = np.uint64(1), np.uint64(_WORD_BITS - 1)
_DOUBLINGS = tuple(np.uint64(1 << power) for power in range(6))


class Found(NamedTuple):
    """The first `end` bytes of a block are whole rows.

    `mask` has `end` bytes and an LF exactly where a row ends; it is None if every LF of those bytes ends a row.
    `plain`: only LF ends these rows, and no row has to be dropped.
    """

    end: int
    mask: bytes | None
    plain: bool


class QuotedBlocks:
    """Reads blocks of one dialect. `cr`: CR and CR LF end rows, too. `comments`: some rows may be comments to drop."""

    def __init__(self, quote: bytes, delimiter: bytes, *, cr: bool, comments: bool) -> None:
        self._quote, self._delimiter = ord(quote), ord(delimiter)
        self._cr, self._comments = cr, comments

    def find(self, block: bytes, *, empty_rows: bool) -> Found:
        """Return the rows before the first doubt. `empty_rows`: an empty line is a row.

        A line end inside quotes is a doubt unless the rows are plain.
        """
        data = np.frombuffer(block, np.uint8)
        with_cr = self._cr and b"\r" in block
        quotes, lines = _bits(data == self._quote), _bits(data == _LF)
        if with_cr:
            lines |= _bits(data == _CR)
        inside = _odd(quotes)
        doubts = _misplaced(quotes, inside, quotes | lines | _bits(data == self._delimiter))
        ends, held = lines & ~inside, lines & inside
        plain = not (with_cr or self._comments) and (empty_rows or not (ends & _behind(ends)).any())
        if not plain:
            doubts |= held
        end = _last_below(ends, _first(doubts)) + 1
        return Found(end, _mask(data, held, end) if plain else None, plain)


def _bits(flags: Flags) -> Bits:
    """Return one bit for each flag, the first one lowest in the first word; zeros fill the last word."""
    packed = np.packbits(flags, bitorder="little")
    words = np.zeros(-(-len(flags) // _WORD_BITS), "<u8")
    words.view(np.uint8)[: len(packed)] = packed
    return words


def _odd(bits: Bits) -> Bits:
    """Return the positions up to which, inclusive, an odd number of bits is set: inside quotes, with the opening quote."""
    odd = bits.copy()
    for distance in _DOUBLINGS:
        odd ^= odd << distance
    odd[1:] ^= np.negative(np.bitwise_xor.accumulate(odd >> _LAST)[:-1])
    return odd


def _misplaced(quotes: Bits, inside: Bits, edges: Bits) -> Bits:
    """Return the quotes that open without an edge before them, or close without an edge after them."""
    before = edges >> _ONE
    before[:-1] |= edges[1:] << _LAST
    return quotes & ((inside & ~_behind(edges)) | ~(inside | before))


def _behind(bits: Bits) -> Bits:
    """Return the positions right after the set bits; the block's first byte counts as after a line end."""
    behind = bits << _ONE
    behind[1:] |= bits[:-1] >> _LAST
    behind[:1] |= _ONE
    return behind


def _first(bits: Bits) -> int:
    """Return the number of the first set bit; one past the last bit if none is set."""
    words = np.flatnonzero(bits)
    if not len(words):
        return len(bits) * _WORD_BITS
    word = int(bits[words[0]])
    return int(words[0]) * _WORD_BITS + (word & -word).bit_length() - 1


def _last_below(bits: Bits, limit: int) -> int:
    """Return the number of the last set bit below number `limit`; -1 if there is none."""
    at, left = divmod(limit, _WORD_BITS)
    if left and (word := int(bits[at]) & ((1 << left) - 1)):
        return at * _WORD_BITS + word.bit_length() - 1
    words = np.flatnonzero(bits[:at])
    return int(words[-1]) * _WORD_BITS + int(bits[words[-1]]).bit_length() - 1 if len(words) else -1


def _mask(data: NDArray[np.uint8], held: Bits, end: int) -> bytes | None:
    """Return the bytes up to `end` with zeros in place of the held line ends; None if there are no such line ends."""
    if not held.any():
        return None
    inside = np.unpackbits(held.view(np.uint8), bitorder="little", count=end).view(np.bool_)
    if not inside.any():
        return None
    mask = data[:end].copy()
    mask[inside] = 0
    return mask.tobytes()
