import io

from regather_cli.progress import Progress, describe


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _document(**changes: object) -> dict[str, object]:
    shards = {"total": 8, "done": 3, "failed": 1, "retries": 0}
    return {"state": changes.pop("state", "running"), "shards": shards | changes}


def test_the_line_counts_settled_shards_and_names_what_went_wrong() -> None:
    line = describe(_document(retries=3))
    assert line == "[############------------]  4/8 shards  running  3 retries  1 failed"


def test_an_unknown_total_is_shown_as_unknown() -> None:
    assert describe(_document(total=None, failed=0)) == f"[{'-' * 24}]  3/? shards  running"


def test_a_terminal_gets_one_line_that_is_overwritten_fully() -> None:
    stream = _Terminal()
    progress = Progress("image", stream)
    progress.show(_document(retries=3))
    progress.show(_document(failed=0))
    progress.close()
    first, second = stream.getvalue().split("\r")[1:]
    assert len(second.rstrip("\n")) >= len(first)
    assert stream.getvalue().endswith("\n")


def test_a_pipe_gets_plain_lines_the_end_always_and_no_repeats() -> None:
    stream = io.StringIO()
    progress = Progress(stream=stream)
    progress.show(_document())
    progress.show(_document(done=4))  # too soon after the first
    progress.show(_document(done=7, state="partial"))
    progress.show(_document(done=7, state="partial"))
    lines = stream.getvalue().splitlines()
    assert [line.split("  ")[2] for line in lines] == ["running", "partial"]
    assert "\r" not in stream.getvalue()
