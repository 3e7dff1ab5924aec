"""A record that takes its workers along is found and charged after at most three losses; nobody else is ever charged."""

import random
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from regather.core.crash_attribution import Attribution, CrashTracker
from regather.core.watermark import Watermark
from regather.wire.commits import decode_commit, encode_commit


@dataclass
class Partition:
    """Records, some of which kill whoever runs them; one owner after the other takes over what was committed last."""

    killers: set[int]
    count: int
    draw: random.Random
    committed: tuple[int, str] = (0, "")
    charged: list[int] = field(default_factory=list)
    losses: int = 0
    ran: list[int] = field(default_factory=list)

    def own(self, *, orderly_after: int | None) -> bool:
        """One owner's time; True if it settled everything. It leaves in order after so many steps, if it lives."""
        offset, metadata = self.committed
        attribution, settled = decode_commit(offset, metadata)
        crash_tracker = CrashTracker("w", attribution, end=self.count, settled=settled)
        watermark = Watermark(offset, settled)
        self.commit(watermark, crash_tracker)
        waiting = [number for number in range(offset, self.count) if watermark.deliver(number)]
        steps = 0
        while waiting:
            if steps == orderly_after:
                self.commit(watermark, crash_tracker, clean_shutdown=True)
                return False
            steps += 1
            batch = self.next_batch(waiting, crash_tracker)
            if crash_tracker.crash_at(batch[0]):
                self.charged.append(batch[0])
            elif not self.run(batch, watermark, crash_tracker):
                self.losses += 1
                return False
            for number in batch:
                waiting.remove(number)
                watermark.ack(number)
                crash_tracker.ack(number)
            if crash_tracker.is_watched(batch[0]) or self.draw.random() < 0.5:
                self.commit(watermark, crash_tracker)
        self.commit(watermark, crash_tracker, clean_shutdown=True)
        return True

    def next_batch(self, waiting: list[int], crash_tracker: CrashTracker) -> list[int]:
        to_charge = [number for number in waiting if crash_tracker.crash_at(number)]
        suspects = [number for number in waiting if crash_tracker.is_suspect(number)]
        if to_charge or suspects:
            return (to_charge or suspects)[:1]
        first = self.draw.randrange(len(waiting))
        return waiting[first : first + self.draw.randint(1, 4)]

    def run(self, batch: list[int], watermark: Watermark, crash_tracker: CrashTracker) -> bool:
        if crash_tracker.is_watched(batch[0]):
            alone = crash_tracker.is_suspect(batch[0])
            for number in batch:
                crash_tracker.begin(number, 1 if alone else None)
            self.commit(watermark, crash_tracker)
        self.ran += batch
        return not self.killers & set(batch)

    def commit(self, watermark: Watermark, crash_tracker: CrashTracker, *, clean_shutdown: bool = False) -> None:
        offset, settled = watermark.committable()
        self.committed = (
            offset,
            encode_commit(offset, crash_tracker.attribution(offset, clean_shutdown=clean_shutdown), settled),
        )


@given(st.integers(1, 60), st.sets(st.integers(0, 59), max_size=3), st.integers(0, 2**32))
def test_only_killers_are_charged_and_each_within_three_losses(count: int, killers: set[int], seed: int) -> None:
    killers = {number for number in killers if number < count}
    partition = Partition(killers, count, random.Random(seed))
    for _ in range(3 * len(killers) + 1):
        if partition.own(orderly_after=None):
            break
    else:
        raise AssertionError(f"not done after {partition.losses} losses")
    assert sorted(partition.charged) == sorted(killers)
    assert partition.losses <= 3 * len(killers)
    assert set(partition.ran) == set(range(count))


@given(st.integers(2, 40), st.integers(0, 39), st.lists(st.integers(0, 6), max_size=12), st.integers(0, 2**32))
def test_orderly_handovers_in_between_make_nobody_else_guilty(
    count: int, killer: int, orderly: list[int], seed: int
) -> None:
    killers = {killer % count}
    partition = Partition(killers, count, random.Random(seed))
    for steps in orderly:
        partition.own(orderly_after=steps)
    while not partition.own(orderly_after=None):
        assert partition.losses <= 3 + len(orderly)
    assert partition.charged == sorted(killers)


def test_a_loss_that_was_not_charged_is_handed_on() -> None:
    guilty = Attribution("lost", False, 9, frozenset(), frozenset({4}), 77)
    second = CrashTracker("second", guilty, end=9)
    crash = second.crash_at(4)
    assert crash is not None
    assert (crash.worker, crash.since_ms) == ("lost", 77)
    third = CrashTracker("third", second.attribution(3, clean_shutdown=False), end=9)
    assert third.crash_at(4) == crash
    third.ack(4)
    assert CrashTracker("fourth", third.attribution(5, clean_shutdown=False), end=9).crash_at(4) is None


def test_a_mark_of_what_is_settled_charges_nobody() -> None:
    stale = Attribution("lost", False, 9, frozenset(), frozenset({4}), 77)
    assert CrashTracker("next", stale, end=9, settled={4}).crash_at(4) is None


def test_the_only_one_named_here_is_a_suspect_and_not_guilty_while_others_ran_elsewhere() -> None:
    beside_others = Attribution("lost", False, 9, frozenset(), frozenset({4}), None)
    crash_tracker = CrashTracker("next", beside_others, end=9)
    assert crash_tracker.crash_at(4) is None
    assert crash_tracker.is_suspect(4)


def test_what_ran_beside_an_uncharged_loss_is_watched() -> None:
    guilty = Attribution("lost", False, 0, frozenset(), frozenset({4}), 77)
    crash_tracker = CrashTracker("next", guilty, end=9)
    assert crash_tracker.unblamed
    assert crash_tracker.is_watched(8)
    assert not crash_tracker.is_watched(9)
    crash_tracker.ack(4)
    assert not crash_tracker.unblamed
    assert crash_tracker.is_watched(8)
