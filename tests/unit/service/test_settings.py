"""Settings that were renamed: the new name counts, the one before is read for one release."""

import pytest

from regather.service.settings import ServiceSettings
from regather_aggregator.settings import AggregatorSettings
from regather_gateway.settings import GatewaySettings

RENAMED = [
    (GatewaySettings, "heartbeat_s", "REGATHER_HEARTBEAT_S", "REGATHER_SIGN_OF_LIFE_S", "3", "4"),
    (GatewaySettings, "sync_wait_s", "REGATHER_SYNC_WAIT_S", "REGATHER_DOOR_WAIT_S", "3", "4"),
    (AggregatorSettings, "heartbeat_timeout_s", "REGATHER_HEARTBEAT_TIMEOUT_S", "REGATHER_SILENCE_S", "3", "4"),
    (AggregatorSettings, "spill_dir", "REGATHER_SPILL_DIR", "REGATHER_SCRATCH_DIR", "/new", "/old"),
    (AggregatorSettings, "spill_bytes", "REGATHER_SPILL_BYTES", "REGATHER_SCRATCH_BYTES", "3", "4"),
]


@pytest.mark.parametrize(("settings", "field", "name", "before", "new", "old"), RENAMED)
def test_a_renamed_setting_is_read_by_both_names_and_the_new_one_counts(
    settings: type[ServiceSettings],
    field: str,
    name: str,
    before: str,
    new: str,
    old: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(before, old)
    of_old = getattr(settings(), field)
    monkeypatch.setenv(name, new)
    of_both = getattr(settings(), field)
    assert (str(of_old).removesuffix(".0"), str(of_both).removesuffix(".0")) == (old, new)
    assert getattr(settings(**{field: of_old}), field) == of_old
