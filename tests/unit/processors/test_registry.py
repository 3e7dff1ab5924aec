"""Kinds are found, filtered and refused clearly; options come from texts and go round as JSON."""

import re
from importlib.metadata import EntryPoint, requires

import pytest

from regather.core.errors import BadRequest
from regather.kinds.bytes_digest import BytesDigest
from regather.kinds.image.features import ImageFeatures, ImageOptions
from regather.processors.base import DATA_ERRORS, Extra, Options
from regather.processors.registry import (
    GROUP,
    Registry,
    all_kinds,
    installed,
    load,
    options_from_json,
    options_json,
    parse_options,
)

DIGEST = "regather.kinds.bytes_digest:BytesDigest"


def point(kind: str, value: str) -> EntryPoint:
    return EntryPoint(kind, value, GROUP)


def test_the_builtin_kinds_are_installed_and_diagnostics_only_if_enabled() -> None:
    assert {"bytes.digest", "image.features"} <= set(installed())
    assert "diagnostics" not in installed()
    assert "diagnostics" in installed(diagnostics=True)
    assert "diagnostics" in all_kinds()
    assert not all_kinds().broken
    assert isinstance(installed()["bytes.digest"], BytesDigest)
    assert installed() is installed()


def test_kinds_are_listed_in_order() -> None:
    registry = Registry({"b": BytesDigest(), "a": BytesDigest()})
    assert registry.kinds() == ("a", "b")
    assert list(registry) == ["a", "b"]
    assert len(registry) == 2


def test_an_unknown_kind_is_refused_with_the_kinds_there_are() -> None:
    with pytest.raises(BadRequest, match=r"unknown kind 'x'; installed are a, b") as caught:
        Registry({"b": BytesDigest(), "a": BytesDigest()}).require("x")
    assert caught.value.code == "unknown-kind"


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("no_such_module_anywhere:Kind", "ModuleNotFoundError"),
        ("regather.kinds.bytes_digest:Missing", "AttributeError"),
        ("regather.kinds.bytes_digest:adler32_combine", "not a subclass of regather.Processor"),
        ("regather.processors.base:Processor", "abstract"),
    ],
)
def test_a_plug_in_that_cannot_be_loaded_is_named_and_the_others_go_on(value: str, why: str) -> None:
    registry = load([point("broken", value), point("fine", DIGEST)])
    assert registry.kinds() == ("fine",)
    assert why in registry.broken["broken"]
    assert value in registry.broken["broken"]
    with pytest.raises(BadRequest, match=rf"kind 'broken' is installed but broken: .*{why}"):
        registry.require("broken")


def test_a_broken_plug_in_is_reported_with_its_distribution(caplog: pytest.LogCaptureFixture) -> None:
    (found,) = all_points("bytes.digest")
    broken = EntryPoint("mine", "nowhere:Kind", GROUP)._for(found.dist)
    registry = load([broken])
    assert "distribution regather 0." in registry.broken["mine"]
    assert "distribution regather 0." in caplog.text


def all_points(kind: str) -> list[EntryPoint]:
    from importlib.metadata import entry_points

    return list(entry_points(group=GROUP, name=kind))


def test_of_two_plug_ins_for_one_kind_the_first_stays_and_the_second_is_reported() -> None:
    features = "regather.kinds.image.features:ImageFeatures"
    registry = load([point("same", DIGEST), point("same", features)])
    assert isinstance(registry["same"], BytesDigest)
    assert "a second plug-in for the kind 'same'" in registry.broken["same"]


def test_texts_become_what_the_options_ask_for() -> None:
    options = parse_options(ImageFeatures(), {"width": "8192", "channels": "4", "dtype": "uint16"})
    assert options == ImageOptions(width=8192, channels=4, dtype="uint16")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (
            {"widht": "3"},
            r"option 'widht' is unknown \(this kind's options: format, width, height, channels, page, level, dtype, low,",
        ),
        ({"width": "many"}, r"option 'width' is 'many': .*integer"),
        ({"channels": 17}, r"option 'channels' is 17: .*less than or equal to 16"),
        ({"dtype": "float64", "width": 0}, r"option 'width' is 0: .*; option 'dtype' is 'float64'"),
    ],
)
def test_wrong_options_are_refused_by_name(given: dict[str, object], why: str) -> None:
    with pytest.raises(BadRequest, match=why) as caught:
        parse_options(ImageFeatures(), given)
    assert caught.value.code == "bad-option"


def test_a_kind_without_options_refuses_any() -> None:
    assert parse_options(BytesDigest(), {}) == Options()
    with pytest.raises(BadRequest, match=r"option 'level' is unknown \(this kind's options: none\)"):
        parse_options(BytesDigest(), {"level": "9"})


def test_options_go_round_as_canonical_json_with_only_what_was_given() -> None:
    given = parse_options(ImageFeatures(), {"width": "5", "channels": "1"})
    document = options_json(given)
    assert document == b'{"channels":1,"width":5}'
    again = options_from_json(ImageFeatures(), document)
    assert again == given
    assert again.model_fields_set == {"width", "channels"}
    assert options_from_json(BytesDigest(), b"") == Options()


@pytest.mark.parametrize("document", [b"{", b"[1]", b"\xff", b'{"widht":1}'])
def test_options_that_cannot_be_read_are_refused(document: bytes) -> None:
    with pytest.raises(BadRequest) as caught:
        options_from_json(ImageFeatures(), document)
    assert caught.value.code == "bad-option"


@pytest.mark.parametrize("kind", sorted(all_kinds().without("diagnostics")))
def test_a_built_in_kind_reads_its_shard_alone_so_its_data_errors_are_certain(kind: str) -> None:
    assert all_kinds()[kind].certain == DATA_ERRORS


class Lacking(BytesDigest):
    extra = Extra("my-plugin[engine]", ("json", "no_such_engine_anywhere"))


def test_a_kind_without_its_extra_is_known_and_takes_no_job() -> None:
    registry = load([point("fine", DIGEST), point("mine", f"{__name__}:Lacking")])
    assert registry.kinds() == ("fine",)
    assert list(registry.incomplete) == ["mine"]
    assert not registry.broken
    with pytest.raises(BadRequest, match=r'^kind mine needs the extra: pip install "my-plugin\[engine\]"') as caught:
        registry.require("mine")
    assert "no_such_engine_anywhere" in str(caught.value)
    assert caught.value.code == "kind-not-installed"
    with pytest.raises(BadRequest, match="needs the extra"):
        registry.without("fine").require("mine")


@pytest.mark.parametrize("kind", sorted(set(all_kinds()) - {"bytes.digest", "diagnostics"}))
def test_a_built_in_kind_says_which_extra_has_its_engines(kind: str) -> None:
    processor = all_kinds()[kind]
    room = type(processor).__module__.split(".")[2]
    assert processor.extra is not None
    assert processor.extra.install == f"regather[{room}]"
    needed = {re.split(r"[>=<;]", line)[0].strip() for line in requires_of(room)}
    assert set(processor.extra.modules) | {"pyvips-binary"} >= needed
    assert needed


def requires_of(extra: str) -> list[str]:
    """Requirements of an extra of regather, those of the extras that it names included."""
    found = [line for line in requires("regather") or [] if re.search(rf"extra == ['\"]{extra}['\"]", line)]
    inner = [re.fullmatch(r"regather\[(\w+)\]", line.split(";")[0].strip()) for line in found]
    plain = [line for line, named in zip(found, inner, strict=True) if not named]
    return [*plain, *(line for named in inner if named for line in requires_of(named[1]))]
