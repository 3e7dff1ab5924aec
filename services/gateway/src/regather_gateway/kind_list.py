"""What `GET /v1/kinds` says of each kind, from its processor alone: no engine is imported for it."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError

from regather.processors.base import Options, Processor
from regather.processors.registry import Registry, what_is_missing
from regather_gateway.schemas import KindDocument, KindList, ResultTypeDocument


def list_of_kinds(registry: Registry) -> KindList:
    """Return all kinds in alphabetical order, those too of which the extra is not installed."""
    offered = {kind: _document(kind, registry[kind], None) for kind in registry}
    lacking = {kind: _document(kind, made, what_is_missing(made)) for kind, made in registry.incomplete.items()}
    return KindList(kinds=[document for _, document in sorted({**lacking, **offered}.items())])


def _document(kind: str, processor: Processor[Any], missing: str | None) -> KindDocument:
    plain = _options(processor, {})
    usual = _media_type(processor, plain)
    return KindDocument(
        kind=kind,
        description=(type(processor).__doc__ or "").strip().split("\n")[0],
        installed=missing is None,
        missing=missing,
        result_type=usual,
        result_types=[
            ResultTypeDocument(options=dict(given), result_type=found)
            for given, found in _result_types(processor)
            if found != usual
        ],
        merges=_merges(processor, plain),
        options=processor.options_model.model_json_schema(),
    )


def _merges(processor: Processor[Any], options: Options | None) -> bool:
    with contextlib.suppress(Exception):
        if options is not None:
            return processor.merges_outputs(options)
    return processor.merges


def _result_types(processor: Processor[Any]) -> Iterator[tuple[Mapping[str, object], str]]:
    """Yield options that may choose another media type, each with the one that it gives."""
    for given in (*_choices(processor), *processor.result_examples):
        options = _options(processor, given)
        if options is not None:
            yield given, _media_type(processor, options)


def _media_type(processor: Processor[Any], options: Options | None) -> str:
    """Return the result's media type; a plug-in that fails here must not take the list of all others along."""
    with contextlib.suppress(Exception):
        if options is not None:
            return processor.media_type(options)
    return processor.result_type


def _choices(processor: Processor[Any]) -> Iterator[Mapping[str, object]]:
    for name, field in processor.options_model.model_fields.items():
        if field.annotation is bool:
            values: tuple[object, ...] = (True, False)
        else:
            values = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
        yield from ({name: value} for value in values)


def _options(processor: Processor[Any], given: Mapping[str, object]) -> Options | None:
    """Return these options and no others; None where the kind needs more of them."""
    try:
        return processor.options_model.model_validate(dict(given))
    except ValidationError:
        return None
