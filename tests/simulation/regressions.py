"""Seeds that found something, each with what it found. They stay in the suite.

A seed repeats its history only as long as the number of draws before the fault stays the same, so what was found also has
a test of its own where that was possible.
"""

FOUND = (
    ("loops", 19, "a gateway's late `accepted` hid the end of a cancelled job from views built after compaction"),
    ("loops", 40, "the same by a second submission of the job, whose `accepted` came after the end"),
    ("loops", 289, "two shards of a partition that take workers along did so for ever, neither of them charged"),
    ("loops", 369, "a chain stood still: its released shard went with a transaction that said OK and was not there"),
    ("loops", 1184, "a worker that had stopped still published, with a producer of its own"),
    (
        "loops",
        437,
        "a zombie lost a redriven job: it began again where its own fold stood, which had not seen the base's end",
    ),
    ("loops", 666, "of the oracle: a redrive that is abandoned before its base is read, whose shards decide it, too"),
    ("loops", 1117, "a gateway never stopped: the wait for its producer's end had swallowed the cancellation"),
    ("loops", 3994, "slow uploads failed one after the other: each took the next one's healthy producer along"),
    (
        "loops",
        206,
        "a merge that waited for its mark when its job was cancelled kept all others of the process waiting",
    ),
    ("loops", 365, "a merge that was done again waited for the commit of a mark that was committed already"),
    ("rules", 205, "a shard behind an uncharged loss, not watched itself, took workers along for ever"),
    ("rules", 408, "the same with the loss in one partition and the shard in another"),
    ("rules", 3373, "a next version, opened before the end of the last one was read back, was dropped after a 202"),
    ("rules", 0, "after a restore the offset passed jobs that were not folded yet, up to where a checkpoint was ahead"),
    (
        "rules",
        590,
        "a redriven job that was restored from its checkpoint ended as internal: the base's outcomes were gone",
    ),
)
