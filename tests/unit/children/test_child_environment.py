"""Children learn where programs are, and no secret."""

import pytest

from regather.children.child_limits import ChildRules
from regather.children.zygote import load_registry
from regather.children.zygote_link import scrubbed_environment


def test_only_listed_variables_and_those_given_on_purpose_are_passed() -> None:
    ours = {"PATH": "/bin", "LANG": "C.UTF-8", "KAFKA_SASL_PASSWORD": "secret", "HOME": "/root", "OMP_NUM_THREADS": "8"}
    theirs = scrubbed_environment({"MODELS": "/models"}, ours)
    assert theirs["PATH"] == "/bin"
    assert theirs["LANG"] == "C.UTF-8"
    assert theirs["MODELS"] == "/models"
    assert theirs["OMP_NUM_THREADS"] == "1"
    assert "HOME" not in theirs
    assert "secret" not in theirs.values()


def test_a_registry_is_a_function_or_a_mapping() -> None:
    assert "bytes.digest" in load_registry("regather.processors.registry:all_kinds")
    with pytest.raises(TypeError, match="not a mapping"):
        load_registry("regather.children.zygote:MESSAGE")


def test_rules_survive_the_command_line() -> None:
    rules = ChildRules(recycle_after_items=3, processes=7, transfer_s=0.5)
    assert ChildRules.from_json(rules.to_json()) == rules
