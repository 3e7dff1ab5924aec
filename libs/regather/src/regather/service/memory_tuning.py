"""Settings of the garbage collector and of the C library's allocator, for services and for children."""

import ctypes
import gc

CHILD_KEEPS_BYTES = 128 * 1024 * 1024
SERVICE_KEEPS_BYTES = 48 * 1024 * 1024

_M_TRIM_THRESHOLD = -1  # the numbers of glibc's malloc.h
_M_MMAP_THRESHOLD = -3
_LARGEST_MMAP_THRESHOLD = 32 * 1024 * 1024


def tune_service() -> None:
    """Tune a service: it keeps many small objects alive and passes on megabytes."""
    tune_garbage_collector()
    keep_freed_memory(SERVICE_KEEPS_BYTES)


def tune_garbage_collector() -> None:
    """Freeze what start-up allocated and collect rarely, which gives a fifth more shards per second (ADR 0005).

    All generations are still collected. Each failed connection leaves a cycle of some kilobytes, and if a young
    collection finds it alive, only an old one frees it.
    """
    gc.collect()
    gc.freeze()
    gc.collect()  # else an old collection would wait until a quarter as much as is frozen has been allocated
    gc.set_threshold(25_000, 10, 10)


def keep_freed_memory(kept_bytes: int) -> None:
    """Let the C library keep this much freed memory for the next shard (glibc's mallopt; no effect elsewhere).

    By default it returns large blocks to the kernel at once, and every array of the next shard costs a page fault for
    each 4 KiB: a fifth of a child's time on the bands of an image (ADR 0005).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD)
        mallopt(_M_TRIM_THRESHOLD, kept_bytes)
