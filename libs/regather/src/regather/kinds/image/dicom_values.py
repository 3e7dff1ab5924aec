"""Turns the samples of a DICOM file into the values that a kind counts, strip by strip, independent of the cut.

For grey images of 8 and 16 bits, one table holds all steps from the bits in the file to the value: shift and mask to
HighBit and BitsStored, extend the sign, then rescale unless `stored` values are requested.

- `stored`: the numbers of the file, as in pydicom's `pixel_array`.
- `rescaled`: slope * stored + intercept, computed in float64, as in pydicom's `apply_rescale`. MONOCHROME1, where the
  lowest value is white, is inverted if there is nothing to rescale (slope 1, intercept 0): low + high - stored, where
  low and high are the lowest and the highest number of BitsStored bits. A rescaled value has a physical unit and is not
  inverted.

The type can hold every number that BitsStored bits can become, whatever the file contains. Whole numbers keep the
file's type if it can hold them, or else get int16, or else uint16 (with 32 bits allocated also int32 or uint32). All
others are float32, or float64 with 32 bits allocated. Colours become RGB: YBR as pydicom converts it, palettes by their
tables (8 or 16 bits). Formulas: PS3.3, C.7.6.3.1 and C.11.1.
"""

import json
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, Literal, Protocol

from regather.kinds.image.dicom_elements import quiet, refused
from regather.kinds.image.dicom_header import Palette, PixelHeader
from regather.kinds.image.refusals import unsupported
from regather.processors.splitting.rows import ITEM_BYTES

Values = Literal["rescaled", "stored"]
_GREY = ("MONOCHROME1", "MONOCHROME2")
_YBR = ("YBR_FULL", "YBR_FULL_422")
_WHOLE_TYPES = {
    "uint8": (0, 2**8 - 1), "int8": (-(2**7), 2**7 - 1), "int16": (-(2**15), 2**15 - 1), "uint16": (0, 2**16 - 1),
    "int32": (-(2**31), 2**31 - 1), "uint32": (0, 2**32 - 1),
}  # fmt: skip


class SampleBits(Protocol):
    """Which bits of a sample are its number."""

    @property
    def bits_allocated(self) -> int:
        """Bits that a sample occupies."""

    @property
    def bits_stored(self) -> int:
        """Bits that are used."""

    @property
    def high_bit(self) -> int:
        """The highest bit that is used."""

    @property
    def signed(self) -> bool:
        """Whether the highest bit is a sign."""


@dataclass(frozen=True, slots=True)
class SampleRule:
    """Turns the samples of a grey or RGB file into values of `dtype`, without the rest of the file's header.

    For samples of 8 and 16 bits whose values have the same size. ValueError and TypeError for input that encode() did
    not write.
    """

    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    slope: float
    intercept: float
    dtype: str

    def encode(self) -> bytes:
        """Return the rule as JSON."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()

    @classmethod
    def decode(cls, rule: bytes) -> "SampleRule":
        """Parse what encode() wrote."""
        return cls(**json.loads(rule))

    def apply(self, samples: bytes) -> bytes:
        """Return the values of little-endian samples, also little-endian."""
        import numpy as np

        raw = np.frombuffer(samples, f"<u{self.bits_allocated // 8}")
        table = _kept_table(self)
        return samples if table is None else table.take(raw).astype(table.dtype.newbyteorder("<"), copy=False).tobytes()


@dataclass(frozen=True, slots=True)
class ValueRules:
    """How the samples of one file become values.

    `raw_dtype` is a sample's type in memory; the result has `channels` of `dtype`. `table` maps a sample's bits to its
    value, if there is a table; otherwise `slope` and `intercept` are applied if they change anything.
    """

    header: PixelHeader
    photometric: str
    raw_dtype: str
    dtype: str
    channels: int
    table: Any
    slope: float
    intercept: float

    def by_sample(self) -> SampleRule | None:
        """Return the rule for single samples; None if there is none, or if values are larger than samples."""
        header = self.header
        if self.photometric in (*_YBR, "PALETTE COLOR") or header.tag != "PixelData" or header.bits_allocated > 16:
            return None
        if ITEM_BYTES[self.dtype] != header.bits_allocated // 8:
            return None
        return SampleRule(
            header.bits_allocated, header.bits_stored, header.high_bit, header.signed,
            self.slope, self.intercept, self.dtype,
        )  # fmt: skip

    def apply(self, raw: Any) -> Any:
        """Return the values (rows, columns, channels) of `dtype` for samples (rows, columns, samples) of `raw_dtype`."""
        if self.photometric in _YBR:
            return _rgb(raw)
        if self.photometric == "PALETTE COLOR":
            return self.table[raw[:, :, 0]]
        return self.table.take(raw) if self.table is not None else self._computed(raw)

    def _computed(self, raw: Any) -> Any:
        import numpy as np

        values = raw if raw.dtype.kind == "f" else _stored(self.header, raw)
        if (self.slope, self.intercept) != (1, 0):
            values = values.astype(np.float64) * self.slope + self.intercept
        return values.astype(self.dtype)


@lru_cache(maxsize=2)
def _kept_table(rule: SampleRule) -> Any:
    """Return the table of a rule; cached, because a child processes many shards of one file."""
    return _table(rule, rule.slope, rule.intercept, rule.dtype)


def value_rules(header: PixelHeader, photometric: str, values: Values) -> ValueRules:
    """Return the rules for a file; `photometric` comes from its codestream. BadInput for unsupported samples."""
    floats = header.tag != "PixelData"
    raw_dtype = f"float{header.bits_allocated}" if floats else f"uint{header.bits_allocated}"
    _check(header, photometric)
    if photometric == "PALETTE COLOR":
        table = _palette_table(header)
        return ValueRules(header, photometric, raw_dtype, str(table.dtype), 3, table, 1.0, 0.0)
    slope, intercept = _scale(header, photometric, values)
    dtype = _float_dtype(header, slope, intercept) if floats else _dtype(header, slope, intercept)
    table = None if floats or header.bits_allocated > 16 else _table(header, slope, intercept, dtype)
    return ValueRules(header, photometric, raw_dtype, dtype, header.samples, table, slope, intercept)


def _check(header: PixelHeader, photometric: str) -> None:
    allocated, stored = header.bits_allocated, header.bits_stored
    if header.tag == "PixelData" and allocated not in (8, 16, 32):
        raise refused(f"it has {allocated} bits allocated for a sample; supported are 8, 16 and 32")
    if not 1 <= stored <= allocated or not stored - 1 <= header.high_bit < allocated:
        raise refused(f"{stored} bits stored up to bit {header.high_bit} do not fit {allocated} bits allocated")
    if not header.rows or not header.columns:
        raise refused(f"it states {header.rows} rows and {header.columns} columns")
    if header.encapsulated and header.high_bit != stored - 1:
        raise refused(f"its samples are compressed and end at bit {header.high_bit} instead of {stored - 1}")
    if photometric not in (*_GREY, *_YBR, "PALETTE COLOR", "RGB"):
        raise unsupported("DICOM", f"colours of the kind {photometric}", "save it as RGB")
    wanted = 1 if photometric in (*_GREY, "PALETTE COLOR") else 3
    if header.samples != wanted:
        raise refused(f"{photometric} has {wanted} samples for a pixel, but the file states {header.samples}")
    if wanted == 3 and (allocated != 8 if photometric in _YBR else allocated > 16):
        raise refused(f"{photometric} of {allocated} bits is not supported")
    if wanted == 3 and header.signed:
        raise refused(f"{photometric} has a sign (PixelRepresentation 1), which colours cannot have")


def _scale(header: PixelHeader, photometric: str, values: Values) -> tuple[float, float]:
    """Return the slope and intercept from stored to requested values."""
    if values == "stored" or photometric not in _GREY:
        return 1.0, 0.0
    if header.modality_table:
        raise refused("its values need a table (ModalityLUTSequence, 0028,3000); ask for values=stored")
    if not header.slope or max(abs(header.slope), abs(header.intercept)) > 1e30:
        raise refused("RescaleSlope (0028,1053) is 0, or a rescale factor is above 1e30; ask for values=stored")
    if (header.slope, header.intercept) == (1, 0) and photometric == "MONOCHROME1" and header.tag == "PixelData":
        return -1.0, float(sum(_stored_range(header)))
    return header.slope, header.intercept


def _stored_range(header: PixelHeader) -> tuple[int, int]:
    half = 1 << (header.bits_stored - 1)
    return (-half, half - 1) if header.signed else (0, 2 * half - 1)


def _dtype(header: PixelHeader, slope: float, intercept: float) -> str:
    """Return the first type that can hold every value of the bits; tries the file's own type first."""
    ends: list[float] = [slope * end + intercept for end in _stored_range(header)]
    wide = header.bits_allocated > 16
    if slope.is_integer() and intercept.is_integer():
        names = [f"{'int' if header.signed else 'uint'}{header.bits_allocated}", "int16", "uint16"]
        for name in [*names, "int32", "uint32"] if wide else names:
            least, greatest = _WHOLE_TYPES.get(name, (0, -1))
            if least <= min(ends) and max(ends) <= greatest:
                return name
    return "float64" if wide else "float32"


def _float_dtype(header: PixelHeader, slope: float, intercept: float) -> str:
    return f"float{header.bits_allocated}" if (slope, intercept) == (1, 0) else "float64"


def _stored(bits: SampleBits, raw: Any) -> Any:
    """Return the numbers in raw bits: shifted and masked to HighBit and BitsStored, with their sign."""
    up = bits.bits_allocated - 1 - bits.high_bit
    down = bits.bits_allocated - bits.bits_stored
    shifted = raw << up
    return (shifted.view(f"i{raw.dtype.itemsize}") if bits.signed else shifted) >> down


def _table(sample: SampleBits, slope: float, intercept: float, dtype: str) -> Any:
    """Return the value of each bit pattern, or None if the bits are the value."""
    import numpy as np

    bits = np.arange(1 << sample.bits_allocated, dtype=f"u{sample.bits_allocated // 8}")
    stored = _stored(sample, bits)
    whole = slope.is_integer() and intercept.is_integer() and dtype != "float32"
    table = stored.astype(np.int64) * int(slope) + int(intercept) if whole else stored * slope + intercept
    table = table.astype(dtype)
    return None if table.dtype == bits.dtype and (table == bits).all() else table


def _palette_table(header: PixelHeader) -> Any:
    """Return the colour of each bit pattern: (patterns, 3). A pattern outside of the palette gets the nearest end."""
    import numpy as np

    palette = header.palette
    if palette is None or header.bits_allocated > 16:
        raise refused("it has no palette for its samples")
    bits = np.arange(1 << header.bits_allocated, dtype=f"u{header.bits_allocated // 8}")
    index = np.clip(_stored(header, bits).astype(np.int64) - palette.first, 0, palette.entries - 1)
    return np.stack([entries[index] for entries in _entries(palette, big_endian=header.big_endian)], axis=1)


def _entries(palette: Palette, *, big_endian: bool) -> list[Any]:
    """Return the three tables. Entries of 8 bits are in one byte each, or in two bytes each."""
    import numpy as np

    wide = len(palette.tables[0]) == 2 * palette.entries
    order = ">" if big_endian else "<"
    tables = [np.frombuffer(table, f"{order}u2" if wide else "u1")[: palette.entries] for table in palette.tables]
    if wide and palette.entry_bits == 8:
        return [table.astype(np.uint8) for table in tables]
    return [table.astype(np.uint16 if wide else np.uint8) for table in tables]


def _rgb(raw: Any) -> Any:
    from pydicom.pixels.processing import convert_color_space

    with quiet():
        return convert_color_space(raw, "YBR_FULL", "RGB")
