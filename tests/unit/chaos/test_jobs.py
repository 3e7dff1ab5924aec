"""The jobs of a run: the same for the same seed, and answers that tell right results from wrong ones."""

import json
import random
from typing import Any

from chaos.jobs import POISON_BYTES, bad_rows, digest, doomed, poison, sleepers, workload_jobs
from chaos.ledger import Ledger


def test_the_seed_decides_the_bodies() -> None:
    bodies = [[job.body for _, job in workload_jobs(seed)] for seed in (1, 1, 2)]
    assert bodies[0] == bodies[1]
    assert bodies[0] != bodies[2]


def test_poison_names_one_shard_of_each_sort_and_the_payloads_of_their_letters() -> None:
    job = poison(random.Random(1), "poison")
    pieces = [job.body[at : at + POISON_BYTES] for at in range(0, len(job.body), POISON_BYTES)]
    said = {seq: json.loads(piece.partition(b"\n")[0])["do"] for seq, piece in enumerate(pieces)}
    bad = {seq for seq, do in said.items() if do != "echo"}
    assert sorted(said[seq] for seq in bad) == ["exit", "raise", "segfault", "sleep"]
    assert job.answer.failed == {seq: pieces[seq] for seq in bad}
    right = {
        "shards": 16,
        "size_bytes": 12 * POISON_BYTES,
        "gaps": [[seq, seq] for seq in sorted(bad)],
        "attempts": 12,
    }
    assert job.answer.wrong(json.dumps(right).encode()) == ""
    changes: tuple[dict[str, Any], ...] = (
        {"attempts": 49},
        {"attempts": 11},
        {"gaps": []},
        {"size_bytes": 0},
        {"shards": 15},
    )
    for change in changes:
        assert job.answer.wrong(json.dumps(right | change).encode())


def test_answers_tell_wrong_results() -> None:
    for job in (
        digest("digest", b"some bytes", 1024),
        sleepers("sleepers", 3, 0.1),
        bad_rows(random.Random(1), "rows"),
    ):
        empty = {"shards": 0, "size_bytes": 0, "gaps": [], "attempts": 0}
        assert job.answer.wrong(json.dumps(empty).encode())
    assert doomed("doomed").answer.wrong(b"") == ""
    assert doomed("doomed").answer.wrong(b"x")


def test_jobs_are_known_by_their_labels() -> None:
    ledger = Ledger()
    first, second = (ledger.begin(sleepers("s", 1, 0.1), None, 0.0) for _ in range(2))
    assert ledger.by_label(second.label) is second
    assert [ledger.by_label(label) for label in ("", "7", "chaos-", "chaos-2", "chaos-x")] == [None] * 5
    first.ended = ("succeeded", 1, None)
    assert list(ledger.open()) == [second]
