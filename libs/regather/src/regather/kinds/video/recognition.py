"""Recognizes a body by its first bytes, so that no file with a signature is treated as raw pixels.

Pure. A signature of only two bytes is not enough: raw pixels begin like that too often. Sources: the formats' own
specifications, and for MPEG-TS the sync byte of three packets.
"""

from dataclasses import dataclass

from regather.core.errors import BadInput

DECODED = ("mp4", "matroska", "avi", "nut")
"""Containers that are decoded."""

_BOX_TYPES = frozenset((b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot", b"moof", b"styp", b"uuid"))
_TS_PACKETS = ((0, 188, "an MPEG transport stream"), (4, 192, "an M2TS file"))
"""Position of the first packet's sync byte, and packet length: as broadcast, and with a time before each packet (M2TS)."""

_MAGICS = {
    b"\x93NUMPY": ("npy", "an NPY file"),
    b"YUV4MPEG2": ("y4m", "a y4m file"),
    b"\x1a\x45\xdf\xa3": ("matroska", "a Matroska or WebM file"),
    b"nut/multimedia container\0": ("nut", "a NUT file"),
    b"PK\x03\x04": ("", "a zip archive (an NPZ file is one: unpack it, and send its NPY file)"),
    b"PK\x05\x06": ("", "an empty zip archive"),
    b"\x89PNG\r\n\x1a\n": ("", "a PNG image"),
    b"\xff\xd8\xff": ("", "a JPEG image"),
    b"GIF87a": ("", "a GIF image"),
    b"GIF89a": ("", "a GIF image"),
    b"II*\0": ("", "a TIFF image"),
    b"MM\0*": ("", "a TIFF image"),
    b"II+\0": ("", "a BigTIFF image"),
    b"MM\0+": ("", "a BigTIFF image"),
    b"\0\0\0\x0cjP  ": ("", "a JPEG 2000 image"),
    b"\xff\x4f\xff\x51": ("", "a JPEG 2000 code stream"),
    b"\0\0\0\x0cJXL ": ("", "a JPEG XL image"),
    b"8BPS": ("", "a Photoshop file"),
    b"\x76\x2f\x31\x01": ("", "an OpenEXR image"),
    b"\x1f\x8b\x08": ("", "a gzip file (send it with Content-Encoding: gzip)"),
    b"\x28\xb5\x2f\xfd": ("", "a Zstandard file (send it with Content-Encoding: zstd)"),
    b"\xfd7zXZ\0": ("", "an xz file"),
    b"BZh91AY&SY": ("", "a bzip2 file"),
    b"7z\xbc\xaf\x27\x1c": ("", "a 7z archive"),
    b"Rar!\x1a\x07": ("", "a RAR archive"),
    b"\x04\x22\x4d\x18": ("", "an LZ4 file"),
    b"%PDF-": ("", "a PDF file"),
    b"\x89HDF\r\n\x1a\n": ("", "an HDF5 file"),
    b"CDF\x01": ("", "a NetCDF file"),
    b"CDF\x02": ("", "a NetCDF file"),
    b"SIMPLE  =": ("", "a FITS file"),
    b"MATLAB 5.0 MAT-file": ("", "a MATLAB file"),
    b"PAR1": ("", "a Parquet file"),
    b"ARROW1": ("", "an Arrow file"),
    b"SQLite format 3\0": ("", "an SQLite file"),
    b"OggS": ("", "an Ogg file"),
    b"FLV\x01": ("", "an FLV file"),
    b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": ("", "an ASF or WMV file"),
    b"\0\0\x01\xba": ("", "an MPEG program stream"),
    b"\0\0\x01\xb3": ("", "an MPEG video stream without a container"),
    b"\0\0\0\x01\x67": ("", "an H.264 stream without a container"),
    b"\0\0\0\x01\x09": ("", "an H.264 stream without a container"),
    b"\0\0\x01\x67": ("", "an H.264 stream without a container"),
    b"\0\0\0\x01\x27": ("", "an H.264 stream without a container"),
    b"\0\0\0\x01\x40\x01": ("", "an HEVC stream without a container"),
    b"\0\0\0\x01\x46\x01": ("", "an HEVC stream without a container"),
    b"\0\0\x01\xb0": ("", "an MPEG-4 stream without a container"),
    b"\x12\0\x0a": ("", "an AV1 stream without a container"),
    b"FWS": ("", "a Flash file"),
    b"CWS": ("", "a Flash file"),
    b"DKIF": ("", "an IVF file"),
    b"\x06\x0e\x2b\x34": ("", "an MXF file"),
    b".RMF": ("", "a RealMedia file"),
    b"fLaC": ("", "a FLAC file"),
    b"ID3": ("", "an MP3 file"),
    b"#EXTM3U": ("", "a playlist"),
    b"ffconcat version": ("", "a list of files"),
    b"v=0\r\n": ("", "an SDP file"),
    b"\x7fELF": ("", "a program"),
    b"<?xml": ("", "an XML file"),
}
_RIFF = {b"AVI ": ("avi", "an AVI file"), b"WAVE": ("", "a WAV file"), b"WEBP": ("", "a WebP image")}


@dataclass(frozen=True, slots=True)
class Found:
    """What a body is. `format` is npy, y4m or one of DECODED, empty if not supported; `name` is for messages."""

    format: str
    name: str


def recognise(head: bytes) -> Found | None:
    """Return what a body that begins with `head` is; None if it has no signature, like raw pixels."""
    if head[4:8] in _BOX_TYPES:
        return _boxes(head)
    if head.startswith((b"RIFF", b"RF64")) and head[8:12] in _RIFF:
        return Found(*_RIFF[head[8:12]])
    for magic, found in _MAGICS.items():
        if head.startswith(magic):
            return Found(*found)
    return _later_magic(head)


def refuse(found: Found) -> BadInput:
    """Return the refusal of an unsupported body, with what to do."""
    return BadInput(
        f"the body is {found.name}, not raw frames; supported are raw pixels, NPY, y4m, MP4, MOV, Matroska, WebM, "
        "AVI and NUT (another video: ffmpeg -i in -c copy out.mkv). If these are raw pixels that only look like one, "
        "set format=raw",
        code="not-frames",
    )


def _boxes(head: bytes) -> Found:
    if head[8:12] in (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1", b"jxl ", b"crx "):
        return Found("", "a still image (HEIF, AVIF or CR3)")
    return Found("mp4", "an MP4 or MOV file")


def _later_magic(head: bytes) -> Found | None:
    if head[128:132] == b"DICM":
        return Found("", "a DICOM file")
    if head[257:262] == b"ustar":
        return Found("", "a tar archive")
    for first, length, name in _TS_PACKETS:
        if len(head) > first + 2 * length and all(head[first + at * length] == ord("G") for at in range(3)):
            return Found("", name)
    if head[:2] == b"BM" and head[6:10] == bytes(4) and head[14:18] in (b"\x28\0\0\0", b"\x7c\0\0\0", b"\x6c\0\0\0"):
        return Found("", "a BMP image")
    return None
