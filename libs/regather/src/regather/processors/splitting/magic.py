"""Recognizes files of other formats by their first bytes, so that a refusal can name the format and say what to do."""

import re

_PACKED = "unpack it and send the file that is in it"
_TWICE = "that is not unpacked here (was it packed twice?): unpack it and send what is in it"
_SHEET = "save the sheet as CSV and send that"
_AS_CSV = "export the table as CSV or Parquet and send that"

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (rb"PK\x03\x04[\s\S]{26}(?:\[Content_T|_rels/|docProps/|xl/)", f"an Excel workbook or another Office file: {_SHEET}"),
    (rb"PK\x03\x04[\s\S]{26}mimetypeapplication/vnd\.oasis", f"an OpenDocument spreadsheet or text: {_SHEET}"),
    (rb"PK(?:\x03\x04|\x05\x06|\x07\x08)", f"a ZIP archive: {_PACKED}"),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", f"an old Excel workbook (xls) or another old Office file: {_SHEET}"),
    (rb"7z\xbc\xaf\x27\x1c", f"a 7z archive: {_PACKED}"),
    (rb"Rar!\x1a\x07", f"a RAR archive: {_PACKED}"),
    (rb"\x1f\x8b", f"a gzip file {_TWICE}"),
    (rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", f"a bzip2 file {_TWICE}"),
    (rb"\xfd7zXZ\0", f"an xz file {_TWICE}"),
    (rb"\x28\xb5\x2f\xfd", f"a Zstandard file {_TWICE}"),
    (rb"\x04\x22\x4d\x18", "an LZ4 file: unpack it, or pack it with gzip or Zstandard instead"),
    (rb"LZIP\x01", "an lzip file: unpack it, or pack it with gzip or xz instead"),
    (rb"\x1f[\x9d\xa0]", "a file compressed with compress (Z): unpack it, or pack it with gzip instead"),
    (rb"\xff\x06\0\0sNaPpY", "a Snappy file: unpack it, or pack it with gzip or Zstandard instead"),
    (rb"PAR1[\x00-\x08\x0e-\x1f\x80-\xff]", "a Parquet file: set the option format=parquet, if the kind has it"),
    (rb"ORC[\x00-\x08\x0e-\x1f\x80-\xff]", f"an ORC file: {_AS_CSV}"),
    (rb"Obj\x01", f"an Avro file: {_AS_CSV}"),
    (rb"ARROW1\0\0|FEA1", f"an Arrow (Feather) file: {_AS_CSV}"),
    (rb"\x89HDF\r\n\x1a\n", f"an HDF5 file: {_AS_CSV}"),
    (rb"SQLite format 3\0", f"an SQLite database: {_AS_CSV}"),
    (rb"\x93NUMPY", "a NumPy array (NPY)"),
    (rb"%PDF-\d", "a PDF document: export its table as CSV and send that"),
    (rb"\{\\rtf\d", "an RTF document: save it as plain text and send that"),
    (rb"\s*<(?i:!doctype\s+html|html|head|body)[\s>]", "an HTML page (of a log-in or an error?): send the file itself"),
    (rb"\s*<\?xml\s", f"an XML document: {_AS_CSV}"),
    (rb"\x89PNG\r\n\x1a\n", "a PNG image"),
    (rb"\xff\xd8\xff", "a JPEG image"),
    (rb"GIF8[79]a", "a GIF image"),
    (rb"II\*\0|MM\0\*", "a TIFF image"),
    (rb"RIFF[\s\S]{4}WEBP", "a WebP image"),
    (rb"\0\0[\s\S]{2}ftyp", "an MP4 video or another file of that family"),
    (rb"\x1a\x45\xdf\xa3", "a Matroska or WebM video"),
    (rb"\x7fELF|MZ\x90\0", "a program"),
)  # fmt: skip
_PATTERNS = tuple((re.compile(pattern), what) for pattern, what in _MAGIC)


def describe(head: bytes) -> str | None:
    """Return the format of a body and what to do, such as "a ZIP archive: unpack it ..."; None if the body may be text.

    `head` is the body's beginning; 64 bytes are enough. The text continues a sentence after "this is" or "but".
    """
    return next((what for pattern, what in _PATTERNS if pattern.match(head)), None)
