"""What the runner makes of patches, and that each patch of this folder still fits the code."""

from pathlib import Path

import pytest

from mutants import page, tree
from mutants.patches import MEANT, HeaderError, Mutant, parse, with_seed

PATCHES = sorted(tree.PATCHES.glob("*.patch"))
HUNK = """diff --git a/libs/a.py b/libs/a.py
--- a/libs/a.py
+++ b/libs/a.py
@@ -1,1 +1,1 @@
-one
+two
"""
HEADER = "Breaks: one is two\nInvariant: I4\n"


def test_a_header_says_what_is_broken_and_where_that_is_seen() -> None:
    mutant = parse("name", f"{HEADER}Level: loops\nSeed: 17\n\n{HUNK}")
    assert mutant == Mutant("name", "one is two", "I4", ("libs/a.py",), "loops", 17)
    assert mutant.levels == ("loops",)


def test_a_mutant_that_was_never_caught_is_looked_for_at_both_levels() -> None:
    mutant = parse("name", f"{HEADER}\n{HUNK}")
    assert (mutant.level, mutant.seed, mutant.levels) == (None, None, ("rules", "loops"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"Invariant: I1\n\n{HUNK}", "Breaks"),
        (f"Breaks: it\n\n{HUNK}", "Invariant"),
        (f"Breaks: it\nInvariant: ERRORS\n\n{HUNK}", "ERRORS"),
        (f"{HEADER}Level: chaos\n\n{HUNK}", "chaos"),
        (f"{HEADER}Seed: 3\n\n{HUNK}", "Level"),
        (f"{HEADER}Level: rules\nSeed: few\n\n{HUNK}", "few"),
        (HEADER, "changes nothing"),
        (f"{HUNK}{HEADER}", "Breaks"),
    ],
)
def test_a_header_that_does_not_say_enough_is_refused(text: str, says: str) -> None:
    with pytest.raises(HeaderError, match=says):
        parse("name", text)


def test_a_seed_is_put_into_the_header_in_place_of_the_one_before() -> None:
    text = with_seed(with_seed(f"{HEADER}\n{HUNK}", "rules", 3), "loops", 250)
    assert text == f"{HEADER}Level: loops\nSeed: 250\n\n{HUNK}"


@pytest.mark.parametrize("path", PATCHES, ids=lambda path: path.stem)
def test_a_patch_fits_the_code_as_it_is(path: Path) -> None:
    mutant = parse(path.stem, path.read_text())
    assert mutant.seed is not None, "run `make mutants` and let --write-seeds note what caught it"
    tree.apply(path, tree.ROOT, only_check=True)


def test_there_is_a_mutant_for_every_invariant() -> None:
    assert {parse(path.stem, path.read_text()).invariant for path in PATCHES} == set(MEANT)


def test_every_mutant_stands_in_the_docs_with_what_catches_it() -> None:
    assert page.rows_of(page.PAGE.read_text()) == page.rows()


def test_a_row_of_the_docs_is_replaced_by_the_new_one_of_the_same_mutant() -> None:
    text = "# Mutants\n\n| `a` | one | I1 | rules 1 |\n| `b` | two | I2 | loops 2 |\n"
    replaced = page.with_rows(text, ["| `b` | two | I2 | loops 99 |"])
    assert replaced == text.replace("loops 2", "loops 99")


def test_a_patch_that_does_not_fit_any_more_is_told(tmp_path: Path) -> None:
    (tmp_path / "libs").mkdir()
    patch = tmp_path / "it.patch"
    patch.write_text(f"{HEADER}\n{HUNK}")
    source = tmp_path / "libs" / "a.py"
    source.write_text("one\n")
    tree.apply(patch, tmp_path)
    assert source.read_text() == "two\n"
    with pytest.raises(tree.DoesNotApply, match=r"(?s)it\.patch does not apply any more.*git diff"):
        tree.apply(patch, tmp_path)


def test_a_copy_has_the_sources_and_nothing_that_was_compiled(tmp_path: Path) -> None:
    for part in tree.PARTS:
        (tmp_path / "from" / part / "__pycache__").mkdir(parents=True)
        (tmp_path / "from" / part / "a.py").write_text("")
        (tmp_path / "from" / part / "__pycache__" / "a.pyc").write_text("")
    tree.copy_to(tmp_path / "to", root=tmp_path / "from")
    assert len(list((tmp_path / "to").rglob("*.py"))) == len(tree.PARTS)
    assert not list((tmp_path / "to").rglob("*.pyc"))
