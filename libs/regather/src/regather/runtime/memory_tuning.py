"""Garbage collector settings for services that keep many small objects alive."""

import gc


def tune_garbage_collector() -> None:
    """Freeze what start-up allocated and collect rarely: one fifth more shards a second (ADR 0005)."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 1000)
