"""Unsharded reference of `bytes.digest`, written apart from the project: it imports nothing of it.

    python bytes_digest.py FILE [--skip-bytes 0]

Prints {"features": ..., "seconds": ...} as one line of JSON.
"""

import argparse
import hashlib
import json
import time
import zlib
from collections import Counter
from pathlib import Path
from typing import Any


def bytes_digest(body: bytes) -> dict[str, Any]:
    """Return the checksums of the whole body."""
    result: dict[str, Any] = {
        "size_bytes": len(body),
        "crc32": zlib.crc32(body),
        "adler32": zlib.adler32(body),
        "newlines": Counter(body)[10],
        "gaps": [],
    }
    exact = json.dumps(result, sort_keys=True, separators=(",", ":"))
    return {**result, "digest": hashlib.sha256(exact.encode()).hexdigest()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--skip-bytes", type=int, default=0)
    arguments = parser.parse_args()
    begun_s = time.perf_counter()
    digest = bytes_digest(arguments.file.read_bytes()[arguments.skip_bytes :])
    print(json.dumps({"features": digest, "seconds": round(time.perf_counter() - begun_s, 3)}))


if __name__ == "__main__":
    main()
