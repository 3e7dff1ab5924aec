"""How many files a reader has to open to follow one submission from its route to its answer."""

import contextvars
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import regather_gateway
from regather_gateway.http.submit_job import submit_job

_SOURCES = Path(regather_gateway.__file__).parent
_MOST_FILES = 12
_asked = contextvars.ContextVar("asked", default=False)
"""Whether a frame runs for this test's request: tasks that the request starts inherit it, those of the views do not."""


async def test_a_submission_with_a_key_passes_at_most_twelve_files(gateway: Any) -> None:
    passed: dict[str, list[str]] = {}

    def called(frame: FrameType, what: str, _argument: object) -> None:
        code = frame.f_code
        path = Path(code.co_filename)
        if what != "call" or not _asked.get() or not path.is_relative_to(_SOURCES):
            return
        if passed or code is submit_job.__code__:
            names = passed.setdefault(str(path.relative_to(_SOURCES)), [])
            names += [code.co_qualname] if code.co_qualname not in names else []

    _asked.set(True)
    before = sys.getprofile()
    sys.setprofile(called)
    try:
        answer = await gateway.client.post(
            "/v1/jobs?kind=bytes.digest&shard_size=1024", content=bytes(20_000), headers={"Idempotency-Key": "k"}
        )
    finally:
        sys.setprofile(before)
    assert answer.status_code == 202
    assert len(await gateway.shards()) == 20
    walk = "\n".join(f"{name}: {', '.join(functions)}" for name, functions in passed.items())
    assert len(passed) <= _MOST_FILES, f"a submission passes {len(passed)} files:\n{walk}"
    assert {"http/submit_job.py", "submission/submit.py", "submission/upload.py"} <= passed.keys()
