"""Kind `word.count`: how often each word occurs in a text. Words are what stands between white space.

The text is cut by bytes alone, so a word may lie across two shards, or more. Each shard therefore tells its first and its
last piece apart, and `merge` joins them.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence

from regather import ByteSplitter, Options, Processor, ShardView, SplitRequest, Splitter


class WordOptions(Options):
    """`top`: so many of the most frequent words; 0 for all."""

    top: int = 0


class WordCount(Processor[WordOptions]):
    """Counts words."""

    options_model = WordOptions

    def splitter(self, options: WordOptions, request: SplitRequest) -> Splitter:
        """Cut by bytes alone, so that the gateway need not look for words."""
        return ByteSplitter(request)

    def process(self, shard: ShardView, options: WordOptions) -> bytes:
        """Return the pieces at both edges, and the counts of the whole words between them."""
        words = shard.payload.split()
        first = b"" if shard.payload[:1].isspace() or not words else words.pop(0)
        if not words and not shard.payload[-1:].isspace():
            if first == shard.payload:
                return json.dumps({"piece": _text(first)}).encode()
            return json.dumps({"first": _text(first), "counts": {}, "last": ""}).encode()
        last = b"" if shard.payload[-1:].isspace() or not words else words.pop()
        counts = Counter(map(_text, words))
        return json.dumps({"first": _text(first), "counts": counts, "last": _text(last)}).encode()

    def merge(self, outputs: Sequence[bytes | None], options: WordOptions) -> bytes:
        """Add up, and join the pieces of words that were cut. A missing shard cuts words at both of its edges."""
        total: Counter[str] = Counter()
        for counts in _whole_words(outputs):
            total.update(counts)
        ordered = sorted(total.items(), key=lambda entry: (-entry[1], entry[0]))
        chosen = ordered[: options.top or None]
        words = {word.encode("latin-1").decode(errors="replace"): count for word, count in chosen}
        return json.dumps({"words": sum(total.values()), "counts": words}).encode()


def _whole_words(outputs: Sequence[bytes | None]) -> Iterator[Counter[str]]:
    open_word = ""
    for output in outputs:
        found = {"first": "", "counts": {}, "last": ""} if output is None else json.loads(output)
        if "piece" in found:
            open_word += found["piece"]
            continue
        yield Counter(found["counts"]) + Counter([word for word in (open_word + found["first"],) if word])
        open_word = found["last"]
    yield Counter([open_word] if open_word else [])


def _text(word: bytes) -> str:
    """Bytes as text, one character each: half a character at an edge must survive."""
    return word.decode("latin-1")
