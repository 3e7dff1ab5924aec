"""What a child does with one shard of `image.features`: it turns the samples into values and counts them.

Which counter a band gets depends on its type: whole numbers (`bands.py`) or floats (`float_bands.py`).
"""

from regather.kinds.image.arriving import band_and_rule
from regather.kinds.image.bands import count_band
from regather.kinds.image.float_bands import count_float_band
from regather.processors.splitting.rows import Band


def band_output(payload: bytes, meta: bytes, span: tuple[float, float] | None) -> bytes:
    """Return the encoded counts of a shard; `span` is the range of the histogram of float32 values, None: their bits.

    ValueError, TypeError or KeyError if `meta` is no Band, or if the payload does not have its rows.
    """
    encoded, rule = band_and_rule(meta)
    band = Band.decode(encoded)
    values = _values(payload, rule) if rule else payload
    if band.dtype == "float32":
        return count_float_band(values, band, span).encode()
    return count_band(values, band).encode()


def _values(samples: bytes, rule: bytes) -> bytes:
    """Return the values of a DICOM file's samples."""
    from regather.kinds.image.dicom_values import SampleRule

    return SampleRule.decode(rule).apply(samples)
