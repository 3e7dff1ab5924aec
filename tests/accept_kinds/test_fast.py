"""The short form of `make accept-kinds` as a test: the everyday cases of every kind over the whole chain."""

from pathlib import Path

import pytest

from accept_kinds.catalogue import all_cases, chosen, model_folder
from accept_kinds.chain import judged
from accept_kinds.run import FAST_SIZES
from regather.embedded.kafka_broker import Broker
from regather.kinds.model.onnx_model import find_model

pytestmark = [pytest.mark.long, pytest.mark.kafka, pytest.mark.e2e, pytest.mark.timeout(300)]


async def test_no_answer_of_the_short_form_is_wrong(
    kafka_broker: Broker, repository_root: Path, tmp_path: Path
) -> None:
    given = repository_root / "../shared/cases"
    models = model_folder(tmp_path, given)
    cases = chosen(all_cases(1, given, models, find_model("digits")), "", fast=True)
    findings = await judged(cases, FAST_SIZES, models, kafka_broker)
    assert findings.doubtful == []
    assert findings.failures == []
    assert findings.words["equal"] > len(cases) / 2
