"""Over HTTP a failure says what was wrong in our words: no folder of the server, no traceback, no library's other file."""

import asyncio
import os
import re
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import pytest_asyncio

from regather.embedded.kafka_broker import Broker
from regather_cli.process_table import descendants
from regather_cli.service_process import Role
from regather_cli.stack import Stack, StackSettings

pytestmark = [pytest.mark.kafka, pytest.mark.e2e, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
PLUG_IN = '''
"""A plug-in that fails in every way, as people's own do."""

import os
import signal
from pathlib import Path

from regather.core.errors import BadInput, PermanentError
from regather.processors.base import DATA_ERRORS, Options, Processor, SplitRequest
from regather.processors.splitting.bytes import ByteSplitter
from my_plugin.deep.inner import open_model

HERE = str(Path(__file__).parent)


class Evil(Exception):
    def __str__(self):
        return "two\\n\\u2028lines \\x1b[2J \\ud800 <" + "x" * 1_000_000


class LeakyOptions(Options):
    do: str = "path"
    whole: bool = False


class FileCut:
    def __init__(self, do):
        self._do = do

    def cut(self, path):
        if self._do == "refuse":
            raise BadInput(f"{path} is no picture")
        FAULTS[self._do]()
        yield None


class Leaky(Processor):
    """Fails as told."""

    options_model = LeakyOptions

    def splitter(self, options, request):
        return FileCut(options.do) if options.whole else ByteSplitter(request)

    def process(self, shard, options):
        return FAULTS[options.do]() or b""

    def merge(self, outputs, options):
        return confuse() if options.do == "merge_fails" else b"{}"


class Certain(Leaky):
    """Fails for its data alone."""

    certain = DATA_ERRORS


def crash():
    print(f"reading {HERE}/other-client.tif")
    os.kill(os.getpid(), signal.SIGSEGV)


def permanent():
    raise PermanentError(f"row 3 of {HERE}/rows.csv: '/home/me/x' is no number")


def evil():
    raise Evil


def confuse():
    len(5)


def huge():
    return bytes(11 * 1024 * 1024)


FAULTS = {
    "path": open_model, "crash": crash, "permanent": permanent, "evil": evil, "confuse": confuse, "huge": huge,
    "merge_fails": lambda: b"fine",
}
'''
INNER = """
def open_model():
    open("/srv/secret folder/models/model.onnx")
"""
ENTRY_POINTS = """[regather.processors]
leaky = my_plugin.core:Leaky
certain = my_plugin.core:Certain
lame = my_plugin.absent:Kind
"""
LEAKS = re.compile(
    "|".join(
        map(re.escape, [str(ROOT), sys.prefix, sys.base_prefix + "/", "/srv/", "site-packages", "Traceback", "/tmp/"])
    )
)


def install(folder: Path) -> None:
    (folder / "my_plugin" / "deep").mkdir(parents=True)
    for package in ("my_plugin", "my_plugin/deep"):
        (folder / package / "__init__.py").touch()
    (folder / "my_plugin" / "core.py").write_text(PLUG_IN)
    (folder / "my_plugin" / "deep" / "inner.py").write_text(INNER)
    info = folder / "my_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)


class World:
    """A stack with the plug-in, and a client of its gateway."""

    def __init__(self, stack: Stack, client: httpx2.AsyncClient) -> None:
        self.stack = stack
        self.client = client

    async def job(self, kind: str, body: bytes = b"a,b\n1,2\n", **options: str) -> dict[str, Any]:
        """The document of a job that has ended; nothing that HTTP shows of it names a folder."""
        query = {"kind": kind} | {f"option.{name}": value for name, value in options.items()}
        answer = await self.client.post("/v1/jobs", params=query, content=body, headers={"Prefer": "wait=30"})
        assert not LEAKS.search(answer.text), answer.text
        if answer.status_code == 422:
            return dict(answer.json())
        document = dict(answer.json())
        for page in ("", "/shards", "/result"):
            shown = (await self.client.get(f"/v1/jobs/{document['job_id']}{page}")).text
            assert not LEAKS.search(shown), shown
        return document


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(kafka_broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("plug-ins")
    install(folder)
    settings = StackSettings(
        workers=1,
        worker_slots=1,
        topic_prefix=f"errors-{uuid.uuid4().hex[:8]}.",
        environment={
            "PYTHONPATH": os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "REGATHER_RETRY_BASE_MS": "1",
            "REGATHER_DIAGNOSTICS": "true",
        },
    )
    async with (
        Stack(settings, broker=kafka_broker) as stack,
        httpx2.AsyncClient(base_url=stack.gateway_url, timeout=60) as client,
    ):
        yield World(stack, client)


async def test_a_plug_in_s_failure_names_its_own_code_by_package(world: World) -> None:
    (error,) = (await world.job("leaky", do="path"))["errors"]

    lines = error["error"].split("\n")
    assert lines[0] == "FileNotFoundError: [Errno 2] No such file or directory: 'model.onnx'"
    assert lines[-1] == "  my_plugin/deep/inner.py:3 in open_model"
    assert (error["reason"], error["attempts"]) == ("raised", 4)


async def test_a_built_in_kind_s_failure_is_one_line_and_the_log_has_the_frames(world: World) -> None:
    (error,) = (await world.job("diagnostics", do="raise"))["errors"]

    assert error["error"] == "RuntimeError: shard 0 was asked to raise, attempt 3"
    (worker,) = world.stack.of(Role.WORKER)
    assert "regather/kinds/diagnostics.py:" in worker.log_path.read_text()


@pytest.mark.parametrize(("do", "reason"), [("segfault", "crashed"), ("sleep", "timed-out")])
async def test_the_stack_of_a_built_in_kind_that_dies_stands_in_the_log_alone(
    world: World, do: str, reason: str
) -> None:
    query = {"kind": "diagnostics", "option.do": do, "timeout_s": "0.3"}
    answer = await world.client.post("/v1/jobs", params=query, content=b"x", headers={"Prefer": "wait=30"})
    (error,) = answer.json()["errors"]

    assert error["reason"] == reason
    assert ".py" not in error["error"]
    assert "thread" not in error["error"]
    (worker,) = world.stack.of(Role.WORKER)
    assert f" in _{do}\\n  File" in worker.log_path.read_text()


@pytest.mark.parametrize(
    ("kind", "do", "reason", "attempts", "word"),
    [
        ("leaky", "crash", "crashed", 4, "reading other-client.tif"),
        ("leaky", "permanent", "permanent", 1, "rows.csv: '/home/me/x' is no number"),
        ("leaky", "evil", "raised", 4, "Evil: two lines \\x1b[2J \\ud800 <xxx"),
        ("leaky", "confuse", "raised", 4, "TypeError: object of type 'int' has no len()"),
        ("certain", "confuse", "permanent", 1, "TypeError: object of type 'int' has no len()"),
        ("leaky", "huge", "returned-too-much", 1, "returned 11534336 bytes; at most 10485760 are allowed: ask for a"),
    ],
)
async def test_failures_are_worded_for_clients_and_certain_ones_not_retried(
    world: World, kind: str, do: str, reason: str, attempts: int, word: str
) -> None:
    (error,) = (await world.job(kind, do=do))["errors"]

    assert (error["reason"], error["attempts"]) == (reason, attempts)
    assert word in error["error"]
    assert len(error["error"].encode()) <= 4096


@pytest.mark.parametrize(
    ("do", "detail"),
    [
        ("refuse", "the body is no picture"),
        ("path", "raised: FileNotFoundError: [Errno 2] No such file or directory: 'model.onnx'"),
        ("evil", "raised: Evil: two lines"),
        ("crash", "crashed: the child was killed by SIGSEGV"),
    ],
)
async def test_a_file_that_cannot_be_cut_is_refused_in_our_words(world: World, do: str, detail: str) -> None:
    problem = await world.job("leaky", do=do, whole="true")

    assert problem["status"] == 422
    assert detail in problem["detail"]
    assert "\n" not in problem["detail"]


async def test_a_plug_in_that_cannot_be_loaded_is_named_without_its_folder(world: World) -> None:
    problem = await world.job("lame")

    assert "ModuleNotFoundError: No module named 'my_plugin.absent'" in problem["detail"]


@pytest.mark.parametrize(("kind", "state", "reason"), [("leaky", 500, "merge-failed"), ("certain", 422, "permanent")])
async def test_a_merge_that_the_data_breaks_is_the_client_s_fault(
    world: World, kind: str, state: int, reason: str
) -> None:
    body = {"payload": "x", "kind": kind, "options": {"do": "merge_fails"}}
    answer = await world.client.post("/process-data", json=body)

    assert answer.status_code == state, answer.text
    assert "TypeError: object of type 'int' has no len()" in answer.text
    assert not LEAKS.search(answer.text)
    assert (await world.client.get(f"/v1/jobs/{answer.json()['job_id']}")).json()["reason"] == reason


ODD_ROWS = [
    ([{"x": 1.5}, {"x": None}, {}], {"derive": "y = x / 0"}),
    ([{"x": "NaN"}, {"x": "inf"}], {"cast": "x:float", "aggregate": "s = sum(x); m = max(x)"}),
    ([{"x": 1e308}, {"x": 1e308}], {"aggregate": "s = sum(x); m = mean(x)"}),
    ([{"x": 10**300}, {"x": -(10**300)}], {"aggregate": "s = sum(x)"}),
    ([{"x": "1e999"}], {"cast": "x:float"}),
    ([{"x": "a"}, 5, None, [1], "text"], {}),
    ([{"x": {"y": [1, {"z": None}]}}], {"group_by": "x", "aggregate": "n = count()"}),
    ([{"": 1, " ": 2}], {}),
    ([{"x": "\x00\x1b\u2028"}], {}),
]


@pytest.mark.parametrize(("payload", "options"), ODD_ROWS)
async def test_odd_rows_are_never_a_500(world: World, payload: list[Any], options: dict[str, str]) -> None:
    body = {"payload": payload, "kind": "table.etl", "options": {"format": "ndjson", **options}}
    answer = await world.client.post("/process-data", json=body)

    assert answer.status_code in (200, 422), answer.text
    assert not LEAKS.search(answer.text)
    assert answer.json()


ENGINES = re.compile(
    r"site-packages/(numpy|duckdb|pyarrow|pyvips|imagecodecs|onnxruntime|av)\b|libvips|libarrow|_duckdb"
)


async def test_no_service_and_no_zygote_maps_an_engine_after_a_job_of_each_kind(world: World) -> None:
    image = (
        b"\x93NUMPY\x01\x00\x46\x00" + b"{'descr': '|u1', 'fortran_order': False, 'shape': (8, 8), }".ljust(69) + b"\n"
    )
    jobs = [
        world.job("bytes.digest"),
        world.job("table.etl", format="csv"),
        world.job("image.features", image + bytes(64)),
        world.job("model.predict", image.replace(b"(8, 8)", b"(1,64)") + bytes(64)),
        world.job("frames.motion", bytes(64), width="8", height="4"),
    ]
    states = [(await job).get("state") for job in jobs]
    assert states == ["succeeded"] * len(jobs)

    services = [service.pid for service in world.stack.services]
    parents = {pid: _parent(pid) for service in services for pid in descendants(service)}
    zygotes = [pid for pid, parent in parents.items() if parent in services]
    children = [pid for pid, parent in parents.items() if parent in zygotes]
    assert len(zygotes) == len(services) == 3
    assert any(ENGINES.search(_maps(pid)) for pid in children)  # so the pattern finds what it looks for
    for pid in (*services, *zygotes):
        assert ENGINES.search(_maps(pid)) is None


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def _maps(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text()


async def test_numbers_in_a_query_that_are_none_are_refused(world: World) -> None:
    for name in ("timeout_s", "deadline_s", "max_failed_pct", "shards", "shard_size"):
        for value in ("nan", "inf", "-inf", "1e999", "9" * 5000, "\x00", "%ED%A0%80"):
            query = {"kind": "bytes.digest", "on_error": "skip", name: value}
            answer = await world.client.post("/v1/jobs", params=query, content=b"x")
            assert answer.status_code == 422, (name, value, answer.text)
            await asyncio.sleep(0)
