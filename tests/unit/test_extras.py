"""Without the extras the services start, offer what they can, and say what is missing; engines stay out of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from regather.processors.registry import all_kinds

ENGINES = ("numpy", "duckdb", "pyarrow", "pyvips", "tifffile", "imagecodecs", "pydicom", "onnxruntime", "av")
KINDS_WITH_ENGINES = sorted(kind for kind, processor in all_kinds().items() if processor.extra is not None)

SERVICES = (
    "import regather_gateway.__main__, regather_worker.__main__, regather_aggregator.__main__, regather.children.zygote"
)
BLOCKED = f"""
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ENGINES!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
"""
LOOK = """
import json
from regather.core.errors import BadRequest
from regather.processors.registry import all_kinds

def refusal(kind):
    try:
        all_kinds().require(kind)
    except BadRequest as error:
        return str(error)

known = all_kinds()
lacking = {kind: refusal(kind) for kind in known.incomplete}
print(json.dumps({"kinds": known.kinds(), "broken": known.broken, "lacking": lacking}))
"""
LISTED = """
from regather_gateway.http.kinds import list_of_kinds
print(list_of_kinds(all_kinds()).model_dump_json())
"""


def run(program: str, python: str = sys.executable) -> list[str]:
    completed = subprocess.run([python, "-c", program], capture_output=True, text=True, timeout=60)
    assert completed.returncode == 0, completed.stderr
    return completed.stdout.splitlines()


def test_no_service_imports_an_engine_when_it_starts_and_describes_the_kinds() -> None:
    found = run(f"{SERVICES}\n{LOOK}{LISTED}\nimport sys\nprint([name for name in {ENGINES!r} if name in sys.modules])")
    assert json.loads(found[0])["lacking"] == {}
    assert found[-1] == "[]"


def check_lacking(found: dict[str, object]) -> None:
    assert found["kinds"] == ["bytes.digest", "diagnostics"]
    assert found["broken"] == {}
    lacking = found["lacking"]
    assert isinstance(lacking, dict)
    assert sorted(lacking) == KINDS_WITH_ENGINES
    for kind, refusal in lacking.items():
        assert refusal.startswith(f'kind {kind} needs the extra: pip install "regather[')


def test_without_engines_the_kinds_are_listed_as_not_installed() -> None:
    lines = run(BLOCKED + SERVICES + LOOK + LISTED)
    check_lacking(json.loads(lines[0]))
    listed = {entry["kind"]: entry for entry in json.loads(lines[1])["kinds"]}
    assert listed["bytes.digest"]["installed"] is True
    assert [kind for kind, entry in sorted(listed.items()) if not entry["installed"]] == KINDS_WITH_ENGINES
    assert 'pip install "regather[table]"' in listed["table.etl"]["missing"]
    assert listed["table.etl"]["options"]["properties"]["output"]


def test_a_clean_environment_without_extras_has_the_plain_kinds(tmp_path: Path, repository_root: Path) -> None:
    """A real environment that uv builds from the workspace; skipped where neither cache nor index has the packages."""
    uv = str(Path(sys.executable).parent / "uv")
    python = str(tmp_path / "venv" / "bin" / "python")
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, str(tmp_path / "venv")], check=True, timeout=60)
    install = [uv, "pip", "install", "--quiet", "--python", python, str(repository_root / "libs" / "regather")]
    built = subprocess.run(install, capture_output=True, text=True, timeout=120)
    if built.returncode:
        pytest.skip(f"the packages cannot be had: {built.stderr.strip()[-300:]}")
    check_lacking(json.loads(run(LOOK, python)[0]))


CUT = """
import hashlib, sys
from regather.processors.splitting.row_grammar import LARGE_BYTES, RowGrammar, csv_dialect

block, grammar = b'1,"a, b",c\\n' * LARGE_BYTES, RowGrammar(csv_dialect())
for part in (block[: LARGE_BYTES - 1], block):
    (data, mask), rest = grammar.rows(part)
    print("numpy" in sys.modules, hashlib.sha256(data + mask + rest).hexdigest())
"""


def test_large_blocks_with_quotes_alone_import_numpy_and_have_the_same_rows_without() -> None:
    with_numpy, without = run(SERVICES + CUT), run(BLOCKED + SERVICES + CUT)
    assert [line.split()[0] for line in with_numpy] == ["False", "True"]
    assert [line.split()[0] for line in without] == ["False", "False"]
    assert [line.split()[1] for line in with_numpy] == [line.split()[1] for line in without]
