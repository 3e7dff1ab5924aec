"""The journal that tasks, driver and observer share: JSON lines stamped with the clock that all of them have in common."""

import json
import os
import time
from pathlib import Path
from typing import Any

Event = dict[str, Any]


class Journal:
    """A file to which every process appends whole lines with one write each, and which each reader follows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read_to, self._rest = 0, b""

    def write(self, event: str, **more: object) -> None:
        line = json.dumps({"event": event, "pid": os.getpid(), "at_s": time.monotonic(), **more}) + "\n"
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(file, line.encode())
        os.close(file)

    def news(self) -> list[Event]:
        """What was written since the last call."""
        if not self.path.exists() or self.path.stat().st_size == self._read_to:
            return []
        with self.path.open("rb") as file:
            file.seek(self._read_to)
            found = file.read()
        self._read_to += len(found)
        *lines, self._rest = (self._rest + found).split(b"\n")
        return [json.loads(line) for line in lines]
