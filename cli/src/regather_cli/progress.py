"""Live progress of a job on standard error: one line that is rewritten on a terminal, plain lines elsewhere."""

import sys
import time
from typing import TextIO

from regather_cli.client import JobDocument, has_ended

_PLAIN_EVERY_S = 2.0
_BAR_CELLS = 24


class Progress:
    """Shows the progress of one job from its documents."""

    def __init__(self, label: str = "", stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = self._stream.isatty()
        self._label = f"{label}: " if label else ""
        self._shown = ""
        self._plain_due = 0.0

    def show(self, document: JobDocument) -> None:
        """Show this state if its line has changed; off a terminal at most every two seconds, and at the end."""
        line = self._label + describe(document)
        if line == self._shown:
            return
        if self._live:
            self._stream.write(f"\r{line:<{len(self._shown)}}")
        elif has_ended(document) or time.monotonic() >= self._plain_due:
            self._plain_due = time.monotonic() + _PLAIN_EVERY_S
            self._stream.write(line + "\n")
        else:
            return
        self._shown = line
        self._stream.flush()

    def close(self) -> None:
        """End the line on a terminal."""
        if self._live and self._shown:
            self._stream.write("\n")
            self._stream.flush()


def describe(document: JobDocument) -> str:
    """Return one line: settled and all shards (`?` until the upload ends), state, and retries and failures if any."""
    shards = document["shards"]
    done, failed, total, retries = (shards[name] for name in ("done", "failed", "total", "retries"))
    settled = done + failed
    filled = int(_BAR_CELLS * settled / total) if total else 0
    parts = [
        f"[{'#' * filled:-<{_BAR_CELLS}}]",
        f"{settled}/{'?' if total is None else total} shards",
        document["state"],
    ]
    parts += [f"{retries} retries"] if retries else []
    parts += [f"{failed} failed"] if failed else []
    return "  ".join(parts)
