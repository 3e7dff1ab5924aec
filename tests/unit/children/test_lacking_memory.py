"""A shard that ran out of memory says so, and what helps, whoever found out: Python, a library's loader, DuckDB."""

import errno
import subprocess
import sys

import duckdb
import pytest

from regather.children.failure_text import explain
from regather.core.model import Reason
from regather.kinds.table.etl import TableEtl

LIMITED = """
import resource
from regather.kinds.table.etl import TableEtl
from regather.children.child_limits import memory_limit
from regather.children.failure_text import explain
from regather.testing.run_kind import run
try:
    with memory_limit({limit}):
        run(TableEtl(), b"a,b\\n1,2\\n", {{"aggregate": "s = sum(a)"}})
except BaseException as error:
    found = explain(error, TableEtl())
    print(found.reason, found.retryable, found.text)
"""


@pytest.mark.parametrize("limit_mib", [16, 32])
def test_an_engine_that_finds_no_room_to_be_imported_says_what_to_raise(limit_mib: int) -> None:
    script = LIMITED.format(limit=limit_mib * 1024 * 1024)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("out-of-memory True ImportError: ")
    assert "REGATHER_MEMORY_LIMIT_BYTES (340 MiB for table kinds" in done.stdout


@pytest.mark.parametrize(
    "error", [MemoryError(), duckdb.OutOfMemoryException("could not allocate"), OSError(errno.ENOMEM, "no memory")]
)
def test_what_lacks_memory_is_out_of_memory(error: BaseException) -> None:
    found = explain(error, TableEtl())
    assert (found.reason, found.retryable) == (Reason.OUT_OF_MEMORY, True)
    assert "smaller shard_size" in found.text


def test_an_import_that_fails_otherwise_is_no_lack_of_memory() -> None:
    assert explain(ImportError("no module named x"), TableEtl()).reason is Reason.RAISED
