"""Every example of the README and the reference that calls a gateway works as it stands, with this stack's address."""

import asyncio
import json
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from accept_kinds.made.dicom import grey, written
from accept_kinds.made.videos import encoded
from PIL import Image

from regather_cli.stack import Stack

pytestmark = [
    pytest.mark.long,
    pytest.mark.kafka,
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.timeout(300),
]

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", *(page.relative_to(ROOT).as_posix() for page in sorted(ROOT.glob("docs/reference/**/*.md")))]
GATEWAY = "http://127.0.0.1:8080"
COMMAND = re.compile(r"(?:\$ )?((?:(?:\.venv/bin/)?(?:regather|python)|curl|printf|head) (?:[^\n]*\\\n)*[^\n]*)")


def commands_of(page: str) -> Iterator[str]:
    """The commands of a page's indented blocks that call the gateway, and those that make their files."""
    for block in re.findall(r"(?:^    .*\n|^\n(?=    ))+", (ROOT / page).read_text(), re.MULTILINE):
        found = [match[1] for match in re.finditer(rf"^{COMMAND.pattern}", textwrap.dedent(block), re.MULTILINE)]
        if any(GATEWAY in command or "regather submit" in command for command in found):
            yield from found


PAGES_WITH_COMMANDS = [page for page in PAGES if list(commands_of(page))]


def make_files(folder: Path) -> None:
    """The files that a reader is expected to have."""
    shutil.copyfile(ROOT / "README.md", folder / "README.md")
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 30), np.uint8)).save(folder / "scan.png")
    (folder / "ct.dcm").write_bytes(written(grey(1, "int16")))
    (folder / "clip.mp4").write_bytes(encoded(1, "mp4", "libx264"))
    (folder / "clip.gray").write_bytes(bytes(320 * 240 * 3))


async def run(command: str, stack: Stack, folder: Path) -> str:
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "REGATHER_URL": stack.gateway_url,
    }
    script = command.replace(GATEWAY, stack.gateway_url).replace(".venv/bin/", "")
    process = await asyncio.create_subprocess_exec(
        "bash", "-o", "pipefail", "-c", script, cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE
    )
    output = (await process.communicate())[0].decode()
    assert process.returncode == 0, command
    return output


def check_answer(command: str, output: str) -> None:
    """A job's document says that it succeeded; a synchronous answer has its result."""
    if "/v1/jobs?" in command:
        assert json.loads(output)["state"] == "succeeded", (command, output)
    elif "/process-data" in command or "/analyze-image" in command:
        assert {"result", "analysis"} & set(json.loads(output)), (command, output)
    elif "-o " not in command:
        assert output, command


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS)
async def test_the_examples_of_a_page_work(page: str, stack: Stack, tmp_path: Path) -> None:
    make_files(tmp_path)
    job_id = ""
    for command in commands_of(page):
        if ":redrive" in command:  # needs a job with failed shards: test_redrive.py has one
            continue
        output = await run(command.replace("/JOB/", f"/{job_id}/"), stack, tmp_path)
        if "curl" in command or "regather submit" in command:
            check_answer(command, output)
        if "/v1/jobs?" in command:
            job_id = json.loads(output)["job_id"]


async def test_most_pages_have_examples() -> None:
    assert {"README.md", "docs/reference/http.md", "docs/reference/kinds/table.md"} <= set(PAGES_WITH_COMMANDS)
    assert sum(len(list(commands_of(page))) for page in PAGES_WITH_COMMANDS) > 30
