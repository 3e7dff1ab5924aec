"""Sums in three digits are rounded as an exact division rounds them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from regather.kinds.table.rounding import round_digits

BASE = 1 << 62
DIGITS = st.one_of(
    st.integers(0, BASE - 1),
    st.sampled_from([0, 1, BASE - 1, BASE // 2, BASE // 2 - 1, BASE // 2 + 1, 1 << 53, (1 << 53) + 1, (1 << 54) + 2]),
    st.builds(lambda shift: 1 << shift, st.integers(0, 61)),
)
NUMBERS = st.tuples(st.one_of(DIGITS, st.integers(0, (1 << 63) - 1)), DIGITS, DIGITS)


@given(st.lists(NUMBERS, min_size=1, max_size=20))
def test_digits_become_the_nearest_double(numbers: list[tuple[int, int, int]]) -> None:
    columns = [np.array(column, np.uint64) for column in zip(*numbers, strict=True)]
    wanted = [(high * BASE * BASE + middle * BASE + low) / (BASE * BASE) for high, middle, low in numbers]
    assert round_digits(*columns).tolist() == wanted
