"""Counts records that retention deleted before a group read them."""


def lost_before(committed: int | None, beginning: int) -> int:
    """Return how many offsets were deleted before a group read them.

    `committed` is the group's offset, None if it never committed or if its offsets have expired. Then every deleted
    offset counts, because nothing proves that it was read. `beginning` is the first offset that is left.
    """
    return max(0, beginning - (committed or 0))
