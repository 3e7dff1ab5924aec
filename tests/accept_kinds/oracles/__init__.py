"""Independent programs on the whole file: DuckDB, pandas, tifffile, Pillow, pydicom, onnxruntime, PyAV, numpy.

Nothing here imports Regather; `make arch` checks it. An oracle that cannot read a file raises OracleRefused.
"""


class OracleRefused(Exception):
    """The independent program says that the file is bad; the message is its own word."""
