"""A copy of what the simulation needs, with one patch in it."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PATCHES = Path(__file__).resolve().parent
_SOURCES = (
    "libs/regather/src",
    "services/gateway/src",
    "services/shard-worker/src",
    "services/aggregator/src",
)
PARTS = (*_SOURCES, "tests/simulation", "tests/mutants")
"""What a copy has, from the root of the tree."""


class DoesNotApply(Exception):
    """The code under a patch has changed."""


def copy_to(target: Path, *, root: Path = ROOT) -> None:
    """Copy the sources, without compiled ones: those of another version must never run."""
    for part in PARTS:
        shutil.copytree(root / part, target / part, ignore=shutil.ignore_patterns("__pycache__", "*.patch"))


def apply(patch: Path, target: Path, *, only_check: bool = False) -> None:
    """Apply a patch as it is, without fuzz; DoesNotApply says what to do."""
    command = ["git", "apply", "--whitespace=nowarn", *(["--check"] if only_check else []), str(patch)]
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(target.resolve().parent)}
    result = subprocess.run(command, cwd=target, env=environment, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise DoesNotApply(
            f"{patch.name} does not apply any more: {result.stderr.strip()}. Make the same mistake in the code as it is "
            "now, write `git diff -U2` below the patch's header, and undo it"
        )


def environment(tree: Path) -> dict[str, str]:
    """The environment in which Python imports from this tree first, and texts have the same hashes each time."""
    path = os.pathsep.join(str(tree / part) for part in (*_SOURCES, "tests"))
    return os.environ | {"PYTHONPATH": path, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
