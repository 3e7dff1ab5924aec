"""Records that retention took before they were read: rare, never silent."""


def lost_before(committed: int | None, beginning: int) -> int:
    """How many offsets were deleted before a group read them.

    `committed` is where the group stood, None if it never committed or its offsets have expired; then nobody can say
    that what is gone was read, so that it counts. `beginning` is the first offset that is left.
    """
    return max(0, beginning - (committed or 0))
