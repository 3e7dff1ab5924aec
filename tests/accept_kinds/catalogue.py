"""All cases: those of the given files and those that the suite makes; and the models that both need."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from accept_kinds import given
from accept_kinds.case import Case
from accept_kinds.made import damage, dicom, images, joins, maps, models, operations, sql, tables, videos

MADE: dict[str, tuple[Callable[[int], Iterable[Case]], ...]] = {
    "table": (tables.cases, operations.cases, joins.cases, damage.cases),
    "sql": (sql.cases,),
    "image": (images.cases,),
    "map": (maps.cases,),
    "dicom": (dicom.cases,),
    "video": (videos.cases,),
}
"""Who makes the files of each group, besides the models."""


def all_cases(seed: int, folder: Path, models_folder: Path, digits: Path, only: str = "") -> list[Case]:
    """Every case of the groups that `only` begins with (all if it is empty), the given files first. Names are unique."""
    groups = {word.strip().partition("/")[0] for word in only.split(",") if word.strip()}
    cases = [*given.cases(folder)]
    cases += [
        case
        for group, makers in MADE.items()
        if not groups or group in groups
        for make in makers
        for case in make(seed)
    ]
    if not groups or "model" in groups:
        cases += models.cases(seed, models_folder, digits)
    names = [case.name for case in cases]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"two cases have the same name: {sorted(twice)}")
    return cases


def chosen(cases: Iterable[Case], only: str, *, fast: bool) -> list[Case]:
    """The cases that begin with one of the words of `only`; of these with `fast` the short form's."""
    words = tuple(word.strip() for word in only.split(",") if word.strip())
    found = [case for case in cases if not words or case.name.startswith(words)]
    return [case for case in found if case.fast] if fast else found


def model_folder(scratch: Path, folder: Path) -> Path:
    """A folder with the given models, in which the made ones are put, too."""
    models = scratch / "models"
    models.mkdir()
    for path in sorted((folder / "models").glob("*")) if folder.is_dir() else ():
        shutil.copyfile(path, models / path.name)
    return models
