"""What plug-ins may import from `regather` itself: a change of this list is a change of the public interface."""

import regather

NAMES = [
    "LINES", "NDJSON", "BadInput", "BadRequest", "ByteSplitter", "FileSplitter", "Options", "PermanentError", "Piece",
    "Processor", "RegatherError", "ShardView", "Side", "SplitRequest", "Splitter", "TextRowSplitter", "__version__",
    "csv_dialect",
]  # fmt: skip


def test_the_public_names_are_these() -> None:
    assert sorted(regather.__all__) == sorted(NAMES)
    assert [name for name in NAMES if not hasattr(regather, name)] == []


def test_every_public_class_and_function_says_what_it_is() -> None:
    described = [getattr(regather, name) for name in NAMES if callable(getattr(regather, name))]
    assert len(described) > 10
    assert [one.__name__ for one in described if not one.__doc__] == []
