"""What a report says of the files that it is about."""

import subprocess
from pathlib import Path

from regather_cli.report import commit, dirty


def git(checkout: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    subprocess.run(["git", "-C", str(checkout), *identity, *arguments], check=True, capture_output=True)


def test_a_checkout_is_dirty_when_a_file_was_changed_or_lies_beside_its_commit(tmp_path: Path) -> None:
    git(tmp_path, "init")
    (tmp_path / ".gitignore").write_text("results\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    (tmp_path / "results").touch()
    assert (len(commit(tmp_path)) >= 7, dirty(tmp_path)) == (True, False)
    (tmp_path / "new").touch()
    assert dirty(tmp_path)
    (tmp_path / "new").unlink()
    (tmp_path / ".gitignore").write_text("results\nmore\n")
    assert dirty(tmp_path)


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path) -> None:
    assert commit(tmp_path) == ""
