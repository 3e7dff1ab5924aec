"""Finds where options that hold SQL may be split: outside of quotes, comments and parentheses.

The gateway checks options without an engine, so it cannot use DuckDB's tokenizer; a property test compares this one
with it. It looks at each character once; otherwise a text of many quotes would take too long and delay all requests.
"""

import re
from typing import NamedTuple

_TOKEN = re.compile(
    r"""(?P<quoted>[eE]'(?:[^'\\]|\\.|'')*+'|'(?:[^']|'')*+'|"(?:[^"]|"")*+")"""
    r"""|(?P<dollar>\$(?:[^\W\d]\w*+)?\$)|(?P<line>--[^\r\n]*+)|(?P<comment>/\*)|(?P<open>[eE]?'|")|\w[\w$]*+|.""",
    re.DOTALL,
)
_NAME_TOKEN = re.compile(r"""(?P<quoted>'(?:[^']|'')*+'|"(?:[^"]|"")*+")|(?P<open>['"])|[^'"]++""")
_COMMENT_EDGE = re.compile(r"/\*|\*/")


class _Marked(NamedTuple):
    """SQL with its comments as spaces, and the same text with an x for each quoted character, too."""

    text: str
    mask: str


def split(text: str, separator: str, *, names: bool = False) -> list[str]:
    """Return the parts between separators, stripped, without empty ones; ValueError for a quote that is not closed.

    `names`: the text is a list of names, and a name such as a--b needs no quotes.
    """
    marked = _marked(text, _NAME_TOKEN if names else _TOKEN)
    parts: list[str] = []
    begin = depth = 0
    for at, character in enumerate(marked.mask + separator):
        depth = max(0, depth + (character == "(") - (character == ")"))
        if character == separator and (not depth or at == len(marked.mask)):
            parts.append(marked.text[begin:at].strip())
            begin = at + 1
    return [part for part in parts if part]


def partition(text: str, between: str) -> tuple[str, str, str]:
    """Return the text before the first unquoted `between`, `between`, and the text after it, as str.partition() does."""
    marked = _marked(text)
    at = marked.mask.find(between)
    return (marked.text[:at], between, marked.text[at + 1 :]) if at >= 0 else (marked.text, "", "")


def masked(text: str) -> str:
    """Return the text with spaces for its comments and an x for each quoted character."""
    return _marked(text).mask


def _marked(text: str, tokens: re.Pattern[str] = _TOKEN) -> _Marked:
    texts: list[str] = []
    masks: list[str] = []
    at = 0
    while (found := tokens.match(text, at)) is not None:
        kind, end = found.lastgroup, found.end()
        if kind == "open":
            raise ValueError(f"a quote is opened in {text!r} and not closed")
        if kind == "dollar":
            end = _end_of_dollars(text, found)
        if kind == "comment":
            end = _end_of_comment(text, end)
        token = text[at:end]
        blank = " " * len(token)
        texts.append(blank if kind in ("line", "comment") else token)
        masks.append("x" * len(token) if kind in ("quoted", "dollar") else texts[-1])
        at = end
    return _Marked("".join(texts), "".join(masks))


def _end_of_dollars(text: str, opened: re.Match[str]) -> int:
    end = text.find(opened[0], opened.end())
    if end < 0:
        raise ValueError(f"a text is opened in {text!r} by {opened[0]} and not closed")
    return end + len(opened[0])


def _end_of_comment(text: str, at: int) -> int:
    """Return the end of the comment whose /* ends at `at`; comments nest."""
    depth = 1
    for edge in _COMMENT_EDGE.finditer(text, at):
        depth += 1 if edge[0] == "/*" else -1
        if not depth:
            return edge.end()
    raise ValueError(f"a comment is opened in {text!r} and not closed")
