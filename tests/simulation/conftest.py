"""What the tests of the simulation leave as they found it."""

from collections.abc import Iterator

import pytest
import structlog


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """A history that is told in this process sends every log line to its trace; the next test's go where they went."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)
