"""The list of kinds: `GET /v1/kinds`, built from the processors alone, without importing an engine."""

import contextlib
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from fastapi import APIRouter
from pydantic import BaseModel, Field, ValidationError

from regather.processors.base import Options, Processor
from regather.processors.registry import Registry, what_is_missing
from regather_gateway.gateway import Parts

router = APIRouter()


class ResultTypeDocument(BaseModel):
    """Options that change the media type of the result, and that media type."""

    options: dict[str, Any]
    result_type: str


class KindDocument(BaseModel):
    """A kind of job. `installed` is false if the extra with its engines is not installed; `missing` names it."""

    kind: str
    description: str
    installed: bool
    missing: str | None = None
    result_type: str = Field(description="media type of the result without options")
    result_types: list[ResultTypeDocument] = []
    side_bytes: int = Field(0, description="largest side file (`side` in a form), in bytes; 0: the kind takes none")
    merges: bool = Field(description="false: without options the result is the concatenated outputs of the shards")
    options: dict[str, Any] = Field(description="JSON Schema of the options")


class KindList(BaseModel):
    """All kinds that this gateway offers or lists as not installed."""

    kinds: list[KindDocument]


@router.get("/v1/kinds", response_model=KindList)
async def list_kinds(gateway: Parts) -> KindList:
    """List all kinds of jobs, with the media types of their results and the JSON Schema of their options."""
    return list_of_kinds(gateway.registry)


def list_of_kinds(registry: Registry) -> KindList:
    """Return all kinds in alphabetical order, including those whose extra is not installed."""
    offered = {kind: _document(kind, registry[kind], None) for kind in registry}
    lacking = {kind: _document(kind, made, what_is_missing(made)) for kind, made in registry.incomplete.items()}
    return KindList(kinds=[document for _, document in sorted({**lacking, **offered}.items())])


def _document(kind: str, processor: Processor[Any], missing: str | None) -> KindDocument:
    plain = _plain_options(processor)
    usual = _media_type(processor, _options(processor, plain))
    return KindDocument(
        kind=kind,
        description=(type(processor).__doc__ or "").strip().split("\n")[0],
        installed=missing is None,
        missing=missing,
        result_type=usual,
        result_types=[
            ResultTypeDocument(options=dict(given), result_type=found)
            for given, found in _result_types(processor, plain)
            if found != usual
        ],
        side_bytes=processor.side_bytes,
        merges=_merges(processor, _options(processor, plain)),
        options=processor.options_model.model_json_schema(),
    )


def _plain_options(processor: Processor[Any]) -> Mapping[str, object]:
    """Return no options, or those of the first example if the kind requires some."""
    needed = processor.result_examples[0] if processor.result_examples else {}
    return {} if _options(processor, {}) is not None else needed


def _merges(processor: Processor[Any], options: Options | None) -> bool:
    with contextlib.suppress(Exception):
        if options is not None:
            return processor.merges_outputs(options)
    return processor.merges


def _result_types(processor: Processor[Any], plain: Mapping[str, object]) -> Iterator[tuple[Mapping[str, object], str]]:
    """Yield options that may change the media type, each with the media type that it gives together with `plain`."""
    for given in (*_choices(processor), *processor.result_examples):
        options = _options(processor, {**plain, **given})
        if options is not None:
            yield given, _media_type(processor, options)


def _media_type(processor: Processor[Any], options: Options | None) -> str:
    """Return the result's media type; if the plug-in fails, its default, so that the other kinds are still listed."""
    with contextlib.suppress(Exception):
        if options is not None:
            return processor.media_type(options)
    return processor.result_type


def _choices(processor: Processor[Any]) -> Iterator[Mapping[str, object]]:
    for name, field in processor.options_model.model_fields.items():
        yield from ({name: value} for value in _values(field.annotation))


def _values(annotation: Any) -> tuple[object, ...]:
    """Return all values of an option of type bool, Literal or a union of these; nothing for any other type."""
    if annotation is bool:
        return (True, False)
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    if get_origin(annotation) in (Union, UnionType):
        return tuple(value for part in get_args(annotation) for value in _values(part))
    return ()


def _options(processor: Processor[Any], given: Mapping[str, object]) -> Options | None:
    """Return exactly these options, validated; None if the kind rejects them or requires more."""
    try:
        return processor.options_model.model_validate(dict(given))
    except ValidationError:
        return None
