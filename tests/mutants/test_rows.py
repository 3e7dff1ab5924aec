"""Caught, or not: only what the checker says of the mutant's own code counts."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from mutants.patches import Mutant
from mutants.rows import Row, broken, decide, document

MUTANT = Mutant("no-fence", "nobody is fenced", "I1", ("libs/a.py",))
CONTROL = {"tried": 2, "violated": {}, "shown": [], "strangers": []}


def search(
    seed: int | None,
    violated: Mapping[str, int],
    *,
    level: str = "rules",
    loaded: Sequence[str] = ("libs/a.py",),
    strangers: Sequence[str] = (),
) -> dict[str, Any]:
    shown = [f"seed 1: {name} is wrong" for name in violated]
    found = {"level": level, "seed": seed, "violated": violated, "shown": shown, "tried": 9}
    return found | {"loaded": loaded, "strangers": strangers}


def test_a_violation_of_what_the_header_names_is_a_catch() -> None:
    row = decide(MUTANT, [search(7, {"I1": 2, "VIEW": 1})], 1.26)
    assert row == Row("no-fence", "I1", "rules", 7, 1.26, ["I1", "VIEW"])
    assert row.as_document()["seconds"] == 1.3


def test_the_level_that_found_it_is_named() -> None:
    row = decide(MUTANT, [search(None, {}), search(31, {"I1": 1}, level="loops")], 1.0)
    assert (row.caught_by, row.seed) == ("loops", 31)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (search(None, {}), "9 seeds of the rules violate nothing"),
        (search(None, {"I2": 3}), "violate I2 and not what the header names; seed 1: I2"),
        (search(7, {"I2": 3}), "violate I2 and not what the header names"),
        (search(None, {"ERRORS": 3}), "ERRORS and not what"),
        (search(None, {"HARNESS": 3}), "HARNESS and not what"),
        (search(7, {"I1": 1}, strangers=["/elsewhere/a.py"]), "from elsewhere"),
        (search(7, {"I1": 1}, loaded=["libs/b.py"]), "does not load"),
    ],
)
def test_anything_else_is_none(found: dict[str, Any], why: str) -> None:
    row = decide(MUTANT, [found], 1.0)
    assert (row.caught_by, row.seed) == (None, None)
    assert why in row.why


def test_a_run_is_good_when_all_are_caught_and_the_sound_tree_violates_nothing() -> None:
    row = decide(MUTANT, [search(7, {"I1": 2})], 1.0)
    found = document([row], CONTROL, 2.0)
    assert (found["ok"], found["total"], found["caught"], found["survivors"]) == (True, 1, 1, [])


@pytest.mark.parametrize("spoiled", [{"violated": {"I1": 1}}, {"strangers": ["/elsewhere/a.py"]}])
def test_a_sound_tree_that_violates_something_spoils_the_run(spoiled: dict[str, Any]) -> None:
    row = decide(MUTANT, [search(7, {"I1": 2})], 1.0)
    assert not document([row], CONTROL | spoiled, 2.0)["ok"]


def test_survivors_are_named_and_spoil_the_run() -> None:
    rows = [decide(MUTANT, [search(7, {"I1": 2})], 1.0), broken(MUTANT, "it.patch does not apply any more", 0.1)]
    found = document(rows, CONTROL, 2.0)
    assert (found["ok"], found["total"], found["caught"], found["survivors"]) == (False, 2, 1, ["no-fence"])
    assert found["rows"][1]["why"] == "it.patch does not apply any more"


def test_a_run_of_nothing_is_not_good() -> None:
    assert not document([], CONTROL, 0.0)["ok"]
