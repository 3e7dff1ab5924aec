"""Makes texts safe to show to clients: one line, no folders of this server, no terminal control characters.

A library's message may name a file by its path on the server, span lines, or contain control characters. A client must
get none of that. There are two rules for two kinds of text. Text from outside, such as the message of an unexpected
exception or the output of a child, loses the folders of every absolute path. Text that was written on purpose, such as
a refusal that quotes the client's own data, loses only folders that are known to be the server's.
"""

import re
import unicodedata
from collections.abc import Iterable

_LINE_BREAKS = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")
_QUOTED_PATH = re.compile(r"""(['"])/(?:[^'"/\n]+/)+([^'"/\n]*)\1""")
_PATH = re.compile(r"""(?<![\w/.~-])/(?!/)(?:[^\s'"<>:;,()\[\]{}|/]+/)+([^\s'"<>:;,()\[\]{}|/]*)""")
_STACK_LINE = re.compile(r'^(\s*File )"([^"]*)"')
_PACKAGES = re.compile(r"^.*/(?:(?:site|dist)-packages|python3\.\d+)/")
_UNSAFE = frozenset({"Cc", "Cf", "Cs"})
_SHORTEST_FOLDER = 2
_PARTS_OF_UNKNOWN = 2


def one_line(text: str) -> str:
    """Return the text with line breaks as spaces, and control characters and half surrogates escaped."""
    joined = _LINE_BREAKS.sub(" ", text).strip()
    if joined.isascii() and joined.isprintable():
        return joined
    return "".join(_escaped(char) if unicodedata.category(char) in _UNSAFE else char for char in joined)


def without_paths(text: str) -> str:
    """Return the text with each absolute path of two parts or more shortened to its last part."""
    return _PATH.sub(r"\1", _QUOTED_PATH.sub(r"\1\2\1", text))


def without_folders(text: str, folders: Iterable[str]) -> str:
    """Return the text with these folders removed from every path that begins with one of them."""
    for folder in sorted({folder.rstrip("/") for folder in folders}, key=len, reverse=True):
        if len(folder) >= _SHORTEST_FOLDER and folder.startswith("/"):
            text = text.replace(f"{folder}/", "")
    return text


def short_path(path: str, roots: Iterable[str]) -> str:
    """Return a source file's path within its package, such as `my_plugin/core.py`; `roots` are folders of packages."""
    found = max((root for root in map(_as_prefix, roots) if root and path.startswith(root)), key=len, default="")
    path = path[len(found) :] if found else _PACKAGES.sub("", path)
    return "/".join(path.split("/")[-_PARTS_OF_UNKNOWN:]) if path.startswith("/") else path


def printed_line(line: str, roots: Iterable[str]) -> str:
    """Return one line that a child printed, such as a line of a stack, without folders and control characters."""
    stack = _STACK_LINE.match(line)
    if stack is not None:
        line = f'{stack[1]}"{short_path(stack[2], roots)}"{line[stack.end() :]}'
    indent = line[: len(line) - len(line.lstrip(" "))]
    return indent + without_paths(one_line(line))


def _as_prefix(root: str) -> str:
    return f"{root.rstrip('/')}/" if root.startswith("/") and len(root) >= _SHORTEST_FOLDER else ""


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode() if not "\ud800" <= char <= "\udfff" else f"\\u{ord(char):04x}"
