"""Where options that hold SQL may be cut: outside of quotes, comments and parentheses.

The gateway checks options and loads no engine, so DuckDB's own tokenizer is not at hand here; a property test compares
this one with it. Each character is looked at once, or a text of many quotes would cost everybody's time.
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
    """SQL with spaces for its comments, and the same with a letter for each character that is quoted, too."""

    text: str
    mask: str


def split(text: str, separator: str, *, names: bool = False) -> list[str]:
    """Return the parts between separators, stripped, without empty ones; ValueError for a quote that is not closed.

    `names`: it is a list of names, in which a column may be called a--b without quotes.
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
    """Return what stands before the first `between` that is not quoted, it, and what stands behind it, as str does."""
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
    """Return where a comment ends whose /* ends at `at`; comments nest."""
    depth = 1
    for edge in _COMMENT_EDGE.finditer(text, at):
        depth += 1 if edge[0] == "/*" else -1
        if not depth:
            return edge.end()
    raise ValueError(f"a comment is opened in {text!r} and not closed")
