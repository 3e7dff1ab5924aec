"""A short form of `make fuzz-records`: odd records in every topic end no service and hurt no job."""

import pytest
from fuzz_records.run import Run
from simulation import trace


@pytest.mark.parametrize("seed", range(3))
def test_odd_records_hurt_nobody(seed: int) -> None:
    trace.silence(cached=False)
    found = Run(seed, 700).go()
    assert (found.exits, found.hangs, found.hurt) == ([], [], [])
    assert found.jobs == 10
    assert found.records > 600
    assert found.refused > found.records // 2
