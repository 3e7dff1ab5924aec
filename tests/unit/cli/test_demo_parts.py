import hashlib
from pathlib import Path
from typing import Any

import pytest

from regather.core.model import AttemptError, Reason
from regather_cli.dead_letters import DeadLetter
from regather_cli.demo import image as demo_image
from regather_cli.demo import poison as demo_poison
from regather_cli.demo.reference import digest_of


def _document(**changes: Any) -> dict[str, Any]:
    return {"state": "partial", "shards": {"gaps": [[5, 5]]}} | changes


def _letter(*, seq: int = 5, payload: bytes | None = None, attempts: int = 4) -> DeadLetter:
    errors = tuple(AttemptError(n, Reason.RAISED, "RuntimeError: no\nlong trace", "w", 0, 3) for n in range(attempts))
    return DeadLetter(
        seq, demo_poison.BODY[5 * 1024 : 6 * 1024] if payload is None else payload, "raised", errors, "t/0/1"
    )


def test_a_partial_job_with_its_dead_letter_is_as_it_must_be() -> None:
    assert demo_poison.complaints(_document(), [_letter()]) == []


@pytest.mark.parametrize(
    ("document", "letters", "complaint"),
    [
        (_document(state="succeeded"), [_letter()], "state is partial"),
        (_document(shards={"gaps": []}), [_letter()], "the gap is named"),
        (_document(), [], "one dead letter, of the poisoned shard"),
        (_document(), [_letter(), _letter()], "one dead letter, of the poisoned shard"),
        (_document(), [_letter(attempts=3)], "the dead letter holds every attempt"),
        (_document(), [_letter(payload=b"other")], "the dead letter holds the payload"),
    ],
)
def test_whatever_is_wrong_with_the_poisoned_job_is_named(
    document: dict[str, Any], letters: list[DeadLetter], complaint: str
) -> None:
    assert demo_poison.complaints(document, letters) == [complaint]


def test_a_dead_letter_is_described_with_each_attempt_and_without_the_trace() -> None:
    lines = _letter().describe().splitlines()
    assert lines[0] == "dead letter t/0/1: shard 5, 1024 bytes, raised"
    assert lines[1] == "  attempt 1: raised after 3 ms on w: RuntimeError: no"
    assert len(lines) == 5


def test_the_demo_image_is_the_same_on_every_machine(tmp_path: Path) -> None:
    path = tmp_path / "image.raw"
    demo_image.write_raw(path)
    assert path.stat().st_size == demo_image.SIZE_BYTES
    with path.open("rb") as file:
        assert (
            hashlib.file_digest(file, "sha256").hexdigest()
            == "9951b7bf31f3a25b6e485a1ea90cf2c081bdb7dc3757a802a4c70da1df402ffd"
        )


def test_a_digest_does_not_depend_on_the_order_of_names_but_on_every_value() -> None:
    assert digest_of({"a": 1, "b": [2.5]}) == digest_of({"b": [2.5], "a": 1})
    assert digest_of({"a": 1, "b": [2.5]}) != digest_of({"a": 1, "b": [2.5000000001]})
