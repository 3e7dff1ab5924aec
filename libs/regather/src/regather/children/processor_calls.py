"""Calls the method of a processor that a piece of work names."""

from functools import lru_cache
from typing import Any

from regather.children.failure_text import KindMissing
from regather.children.file_cut import CutOrder, cut_into_fifo, inspect_head
from regather.children.row_calls import call_shard
from regather.children.work import Call, Work, WorkItem
from regather.core.errors import BadRequest
from regather.processors.base import Options, Processor
from regather.processors.registry import Registry, options_from_json

_OPTIONS_KEPT = 16


class ProcessorCalls:
    """The processors of a registry, and the options that they parsed last.

    Each call raises what the processor raises, KindMissing if there is none of the kind, and TypeError if it returned
    anything but bytes.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._options = lru_cache(maxsize=_OPTIONS_KEPT)(self._parse_options)

    def run(self, work: Work, item: WorkItem) -> bytes:
        """Run one item of any work but a merge."""
        processor, options = self._processor(work.kind), self._options(work.kind, work.options)
        if work.call is Call.SPLIT:
            return cut_into_fifo(processor, options, CutOrder.decode(item.payload, item.carry))
        if work.call is Call.INSPECT:
            return _as_bytes(inspect_head(processor, options, item), work)
        return _as_bytes(call_shard(processor, work.call, item, options), work)

    def merge(self, work: Work) -> bytes:
        """Merge the outputs that the items of the work hold."""
        outputs = [None if item.missing else item.payload for item in work.items]
        return _as_bytes(self._processor(work.kind).merge(outputs, self._options(work.kind, work.options)), work)

    def _processor(self, kind: str) -> Processor[Any]:
        try:
            return self._registry.require(kind)
        except BadRequest as error:
            raise KindMissing(str(error)) from error

    def _parse_options(self, kind: str, document: bytes) -> Options:
        return options_from_json(self._processor(kind), document)


def _as_bytes(output: object, work: Work) -> bytes:
    if isinstance(output, bytes):
        return output
    if isinstance(output, bytearray | memoryview):
        return bytes(output)
    raise TypeError(f"{work.call}() of kind {work.kind!r} returned {type(output).__name__}; it must return bytes")
