"""The example plug-in counts what a plain program counts, wherever the text is cut."""

import importlib.util
import json
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from regather.processors.base import ShardView, SplitRequest

SOURCE = Path(__file__).resolve().parents[2] / "examples/word-count/src/regather_word_count/__init__.py"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("regather_word_count", SOURCE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


EXAMPLE = load()
texts = st.text(alphabet="ab \n\tüé", min_size=1, max_size=60)


@given(texts, st.integers(1, 9))
def test_any_cut_gives_the_counts_of_the_whole_text(text: str, size: int) -> None:
    processor, options = EXAMPLE.WordCount(), EXAMPLE.WordOptions()
    data = text.encode()
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    outputs = [processor.process(ShardView(piece, b"", seq, 0), options) for seq, piece in enumerate(pieces)]

    result = json.loads(processor.merge(outputs, options))

    assert result["counts"] == Counter(word.decode() for word in data.split())


def test_the_most_frequent_words_come_first_and_the_rest_is_left_out() -> None:
    processor, options = EXAMPLE.WordCount(), EXAMPLE.WordOptions(top=1)
    splitter = processor.splitter(options, SplitRequest(1024))
    pieces = [*splitter.feed(b"b a b "), *splitter.finish()]
    outputs = [processor.process(ShardView(piece.payload, piece.meta, 0, 0), options) for piece in pieces]
    assert json.loads(processor.merge(outputs, options)) == {"words": 3, "counts": {"b": 2}}
