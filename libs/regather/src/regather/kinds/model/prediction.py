"""Runs one shard of `model.predict`, from its bytes to its rows of answers. Runs in a child."""

import numpy as np

from regather.core.errors import PermanentError
from regather.kinds.model.batches import Answers, Found, batch_rows, run_batches, run_whole
from regather.kinds.model.examination import check_not_random, check_repeatable, check_rows_alone, examine
from regather.kinds.model.features import Features, read_features
from regather.kinds.model.onnx_model import OnnxModel, load_model
from regather.kinds.model.options import PredictOptions
from regather.kinds.model.outputs import plan_outputs
from regather.kinds.model.results import Rows, as_rows
from regather.kinds.model.shard_meta import ShardMeta


def predicted(payload: bytes, meta: ShardMeta, options: PredictOptions) -> Rows:
    """Return a shard's answers; PermanentError says what is wrong with the model, the options or a row."""
    model = load_model(options.model, options.model_sha256)
    check_not_random(model)
    features = read_features(payload, meta, options, model.inputs)
    size = batch_rows(features.inputs, model.batch, options.batch_rows)
    examination = examine(model, features.inputs, size)
    plan = plan_outputs(model.outputs, examination.sums_to_one, options)
    if not len(features.numbers):
        found = _nothing(model, plan.outputs, examination.empty)
    else:
        found = _run(model, plan.outputs, features, size, options)
    return as_rows(plan, found, model.labels, features.numbers, features.ids, options)


def _run(model: OnnxModel, outputs: list[str], features: Features, size: int, options: PredictOptions) -> Found:
    if options.whole:
        check_repeatable(model, outputs, features.inputs, size)
        return run_whole(model, outputs, features.inputs)
    check_rows_alone(model, outputs, features.inputs, size)
    return run_batches(model, outputs, features.inputs, features.numbers, size)


def _nothing(model: OnnxModel, outputs: list[str], empty: Found) -> Found:
    """Return answers to no rows, with the right shape if made-up rows have shown it."""
    declared = {tensor.name: tensor for tensor in model.outputs}
    found: Found = {}
    for name in outputs:
        tensor = declared[name]
        if name in empty:
            found[name] = empty[name]
        elif tensor.keys is not None:
            raise PermanentError(
                f"there are no rows, and without rows the classes of the output {name!r} are not known"
            )
        else:
            dtype = object if tensor.dtype == "text" else tensor.dtype
            found[name] = Answers(np.zeros((0, *(side or 0 for side in tensor.shape)), dtype))
    return found
