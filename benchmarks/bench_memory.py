"""`make bench-memory`: how much the gateway's memory grows while it takes large bodies, on each route in.

The peak is the kernel's own (VmHWM of the gateway's process, reset before each route). Every answer is checked: the
kind `bytes.digest` tells length and CRC-32 of what has arrived.
{"routes": {name: {"body_bytes", "rss_before_mb", "rss_peak_mb", "growth_mb"}}, "first_outcome_before_upload_end"}
"""

import asyncio
import base64
import json
import sys
import time
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from regather_cli.report import write_report
from regather_cli.stack import Role, Stack, StackSettings

MIB = 1024 * 1024
GOAL_MB = 64.0
BLOCK = bytes(range(256)) * (MIB // 256)
RAW_BYTES, OTHER_BYTES = 2048 * MIB, 200 * MIB
BOUNDARY = b"bench-memory"


@dataclass
class Body:
    """What is sent, and what it is once the route has unpacked it."""

    size_bytes: int
    crc32: int = 0
    sent_bytes: int = 0

    def blocks(self) -> Any:
        for number in range(self.size_bytes // MIB):
            block = number.to_bytes(8, "big") + BLOCK[8:]
            self.crc32 = zlib.crc32(block, self.crc32)
            yield block


async def raw(body: Body) -> AsyncIterator[bytes]:
    for block in body.blocks():
        yield block


async def gzipped(body: Body) -> AsyncIterator[bytes]:
    packer = zlib.compressobj(1, wbits=31)
    for block in body.blocks():
        yield packer.compress(block)
    yield packer.flush()


async def form(body: Body) -> AsyncIterator[bytes]:
    yield b"--" + BOUNDARY + b'\r\nContent-Disposition: form-data; name="f"; filename="f"\r\n\r\n'
    for block in body.blocks():
        yield block
    yield b"\r\n--" + BOUNDARY + b"--\r\n"


async def json_base64(body: Body) -> AsyncIterator[bytes]:
    """An image of one channel, 1 MiB wide: /analyze-image spools it, because the fields may follow it."""
    yield b'{"image_data": "'
    rest = b""
    for block in body.blocks():
        data = rest + block
        cut = len(data) - len(data) % 3
        yield base64.b64encode(data[:cut])
        rest = data[cut:]
    yield base64.b64encode(rest) + b'", "width": 1024, "channels": 1, "shard_size": 1048576}'


ROUTES = {
    "raw": (raw, RAW_BYTES, {}),
    "gzip": (gzipped, OTHER_BYTES, {"content-encoding": "gzip"}),
    "multipart": (form, OTHER_BYTES, {"content-type": f"multipart/form-data; boundary={BOUNDARY.decode()}"}),
    "json_base64": (json_base64, OTHER_BYTES, {"content-type": "application/json"}),
}


def status_kb(pid: int, field: str) -> int:
    text = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{field}:"))


def reset_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")


async def counted(chunks: AsyncIterator[bytes], body: Body) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        body.sent_bytes += len(chunk)
        if chunk:
            yield chunk


async def send(client: httpx2.AsyncClient, name: str, body: Body) -> None:
    make, _, headers = ROUTES[name]
    content = counted(make(body), body)
    if name == "json_base64":
        response = (await client.post("/analyze-image", content=content, headers=headers)).raise_for_status()
        found = response.json()["analysis"]
        if found["rows"] * found["width"] != body.size_bytes:
            raise RuntimeError(f"{name}: {found['rows']} rows of {found['width']}")
        return
    query = {"kind": "bytes.digest", "shard_size": str(MIB)}
    headers = {"content-type": "application/octet-stream", "prefer": "wait=30", **headers}
    response = (await client.post("/v1/jobs", params=query, content=content, headers=headers)).raise_for_status()
    job_id = response.json()["job_id"]
    result = await client.get(f"/v1/jobs/{job_id}/result", headers={"prefer": "wait=30"})
    found = result.raise_for_status().json()
    if (found["size_bytes"], found["crc32"]) != (body.size_bytes, body.crc32):
        raise RuntimeError(f"{name}: wrong result {found}")


async def first_outcome_during(client: httpx2.AsyncClient, upload: "asyncio.Task[None]") -> bool:
    """Whether a shard of the job is done while its upload still runs."""
    while not upload.done():
        jobs = (await client.get("/v1/jobs", params={"limit": "1"})).json()["jobs"]
        if jobs and jobs[0]["state"] == "splitting" and jobs[0]["shards"]["done"] > 0:
            return True
        await asyncio.sleep(0.1)
    return False


async def main() -> int:
    started = time.monotonic()
    routes: dict[str, dict[str, Any]] = {}
    early = False
    async with (
        Stack(StackSettings(workers=1, worker_slots=2, environment={"REGATHER_SYNC_WAIT_S": "120"})) as stack,
        httpx2.AsyncClient(base_url=stack.gateway_url, timeout=300) as client,
    ):
        pid = stack.of(Role.GATEWAY)[0].pid
        assert pid is not None
        await send(client, "raw", Body(4 * MIB))  # what is allocated once is not growth
        least_kb = status_kb(pid, "VmRSS")
        for name, (_, size_bytes, _) in ROUTES.items():
            reset_peak(pid)
            # What the route before has left allocated counts as growth, too.
            before_kb, body = min(least_kb, status_kb(pid, "VmRSS")), Body(size_bytes)
            upload = asyncio.create_task(send(client, name, body))
            if name == "raw":
                early = await first_outcome_during(client, upload)
            await upload
            peak_kb = status_kb(pid, "VmHWM")
            routes[name] = {
                "body_bytes": body.sent_bytes,
                "rss_before_mb": round(before_kb / 1024, 1),
                "rss_peak_mb": round(peak_kb / 1024, 1),
                "growth_mb": round((peak_kb - before_kb) / 1024, 1),
            }
            print(name, json.dumps(routes[name]), flush=True)
    ok = early and all(route["growth_mb"] < GOAL_MB for route in routes.values())
    document = {"ok": ok, "routes": routes, "first_outcome_before_upload_end": early, "goal_mb": GOAL_MB}
    print(json.dumps(write_report("bench-memory", document, started)), flush=True)
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
