"""Where the rows of a block with quotes end, found for all of it at once, in passes over arrays instead of byte by byte.

A block begins with a row. Its quotes are numbered from there: the odd ones open, the even ones close, and each byte is
inside of quotes or not by the number of quotes up to it. That is how the row grammar reads the block, too, as long as

- each opening quote stands at the block's beginning, or behind a delimiter, a line end or a closing quote,
- each closing quote stands before a delimiter, a line end or an opening quote.

A closing and an opening quote next to each other are a doubled quote: the field goes on, so both ways to read them agree.
Any other quote (`5" pipe`, a space in front, bytes behind) is where this proof ends; the grammar reads on from the last row
end before it. Comments need no care: whoever takes a line for one ends it at its first line end, and so does the proof
if no quote is open there. If one is, the proof ends at that line end, or takes it for data where that is asked for.

One byte of the block is one bit here, 64 to a word, so all that follows the four comparisons costs little. This module is
the only one that needs NumPy outside of children, and is imported when a first block is large enough (ADR 0027).
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

    `mask` is as long as they are and has an LF exactly where a row ends; None if each of their line ends does. `plain`: LF
    alone ends them, and none has to be left out.
    """

    end: int
    mask: bytes | None
    plain: bool


class QuotedBlocks:
    """Reads blocks of one dialect; `cr`: CR and CR LF end rows, too. `comments`: rows may have to be left out as such."""

    def __init__(self, quote: bytes, delimiter: bytes, *, cr: bool, comments: bool) -> None:
        self._quote, self._delimiter = ord(quote), ord(delimiter)
        self._cr, self._comments = cr, comments

    def find(self, block: bytes, *, empty_rows: bool) -> Found:
        """Return the rows before the first doubt; empty rows are rows with `empty_rows`.

        A line end inside of quotes is a doubt if the rows are not plain.
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
    """Return the bits up to which, themselves counted in, an odd number is set: inside of quotes, and opening ones."""
    odd = bits.copy()
    for distance in _DOUBLINGS:
        odd ^= odd << distance
    odd[1:] ^= np.negative(np.bitwise_xor.accumulate(odd >> _LAST)[:-1])
    return odd


def _misplaced(quotes: Bits, inside: Bits, edges: Bits) -> Bits:
    """Return the quotes that open behind no edge, or close before none."""
    before = edges >> _ONE
    before[:-1] |= edges[1:] << _LAST
    return quotes & ((inside & ~_behind(edges)) | ~(inside | before))


def _behind(bits: Bits) -> Bits:
    """Return the bits behind those that are set; what stands before the block is a line end."""
    behind = bits << _ONE
    behind[1:] |= bits[:-1] >> _LAST
    behind[:1] |= _ONE
    return behind


def _first(bits: Bits) -> int:
    """Return the number of the first bit that is set; if there is none, one behind the last."""
    words = np.flatnonzero(bits)
    if not len(words):
        return len(bits) * _WORD_BITS
    word = int(bits[words[0]])
    return int(words[0]) * _WORD_BITS + (word & -word).bit_length() - 1


def _last_below(bits: Bits, limit: int) -> int:
    """Return the number of the last bit that is set below number `limit`; -1 if there is none."""
    at, left = divmod(limit, _WORD_BITS)
    if left and (word := int(bits[at]) & ((1 << left) - 1)):
        return at * _WORD_BITS + word.bit_length() - 1
    words = np.flatnonzero(bits[:at])
    return int(words[-1]) * _WORD_BITS + int(bits[words[-1]]).bit_length() - 1 if len(words) else -1


def _mask(data: NDArray[np.uint8], held: Bits, end: int) -> bytes | None:
    """Return the bytes up to `end` without the line ends that are held; None if there are none of those."""
    if not held.any():
        return None
    inside = np.unpackbits(held.view(np.uint8), bitorder="little", count=end).view(np.bool_)
    if not inside.any():
        return None
    mask = data[:end].copy()
    mask[inside] = 0
    return mask.tobytes()
