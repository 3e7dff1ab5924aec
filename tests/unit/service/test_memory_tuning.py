"""Collections are rare, but none of the generations is left out."""

import gc
import weakref
from collections.abc import Iterator

import pytest

from regather.service.memory_tuning import tune_garbage_collector


class Cycle:
    """Garbage that only the collector can free."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def tuned() -> Iterator[None]:
    before = gc.get_threshold()
    tune_garbage_collector()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.mark.usefixtures("tuned")
def test_what_dies_after_it_has_outlived_younger_collections_is_freed_in_the_end() -> None:
    alive = [Cycle() for _ in range(1000)]
    gc.collect(1)  # they are old now
    dead = weakref.ref(alive[0])
    alive.clear()
    for _ in range(4_000_000):
        cycle: list[object] = []
        cycle.append(cycle)
        if dead() is None:
            break
    assert dead() is None


@pytest.mark.usefixtures("tuned")
def test_thousands_of_objects_in_flight_set_no_collection_going() -> None:
    collections = sum(generation["collections"] for generation in gc.get_stats())
    in_flight = [Cycle() for _ in range(20_000)]
    assert sum(generation["collections"] for generation in gc.get_stats()) == collections
    assert len(in_flight) == 20_000
