"""Texts for clients: one printable line, no folder of the server, the client's own words otherwise untouched."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regather.core.public_text import one_line, printed_line, short_path, without_folders, without_paths

names = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=9)
folders = st.lists(names, min_size=1, max_size=5).map(lambda parts: "/" + "/".join(parts))


@given(st.text())
def test_a_line_is_one_printable_line_that_utf8_can_hold(text: str) -> None:
    line = one_line(text)
    assert line.splitlines() in ([], [line])
    assert "\x1b" not in line
    line.encode()
    assert one_line(line) == line


@given(folders, names, st.sampled_from(["{}", "'{}'", "open {}: no", "({})", "x={} y", "at:{}"]))
def test_of_a_path_only_the_last_part_stays(folder: str, name: str, frame: str) -> None:
    assert without_paths(frame.format(f"{folder}/{name}")) == frame.format(name)


@given(folders, names)
def test_a_known_folder_goes_and_other_paths_stay(folder: str, name: str) -> None:
    assert without_folders(f"{folder}/{name} is odd", [folder, "/", ""]) == f"{name} is odd"
    assert without_folders("row 3: '/home/me/x'", [folder + "/nowhere"]) == "row 3: '/home/me/x'"


@pytest.mark.parametrize(
    "text", ["https://example.org/a/b/c", "text/csv", "1/2/3", "and/or", "../a/b", "a // b // c", "3 / 4 / 5"]
)
def test_what_is_no_path_stays(text: str) -> None:
    assert without_paths(text) == text


@pytest.mark.parametrize(
    ("path", "short"),
    [
        ("/opt/app/lib/python3.11/site-packages/my_plugin/core.py", "my_plugin/core.py"),
        ("/usr/lib/python3.11/json/decoder.py", "json/decoder.py"),
        ("/srv/plugins/mine/core.py", "mine/core.py"),
        ("/nowhere/known/deep/core.py", "deep/core.py"),
        ("<string>", "<string>"),
    ],
)
def test_a_source_file_is_named_by_its_package(path: str, short: str) -> None:
    assert short_path(path, ["/srv/plugins", "", "relative"]) == short


def test_a_printed_stack_keeps_its_indent() -> None:
    assert printed_line('  File "/srv/p/a/b.py", line 3 in f', ["/srv/p"]) == '  File "a/b.py", line 3 in f'
