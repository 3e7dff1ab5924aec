"""The installed kinds: plug-ins of the entry-point group `regather.processors`; an entry point's name is its kind."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from typing import Any

from pydantic import ValidationError

from regather.core.errors import BadRequest
from regather.core.public_text import one_line, without_paths
from regather.processors.base import Options, Processor

GROUP = "regather.processors"
DIAGNOSTICS = "diagnostics"
_SHOWN_CHARS = 500

log = logging.getLogger(__name__)


class Registry(Mapping[str, Processor[Any]]):
    """Maps each kind that can run here to its processor.

    `broken` maps each plug-in that failed to load to the reason, which names its distribution. `incomplete` holds the
    plug-ins whose extra is not installed: they can be described, but their jobs are refused.
    """

    def __init__(
        self,
        processors: Mapping[str, Processor[Any]],
        broken: Mapping[str, str] | None = None,
        incomplete: Mapping[str, Processor[Any]] | None = None,
    ) -> None:
        self._processors = dict(sorted(processors.items()))
        self.broken = dict(broken or {})
        self.incomplete = dict(sorted((incomplete or {}).items()))

    def __getitem__(self, kind: str) -> Processor[Any]:
        return self._processors[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._processors)

    def __len__(self) -> int:
        return len(self._processors)

    def kinds(self) -> tuple[str, ...]:
        """All kinds in alphabetical order."""
        return tuple(self._processors)

    def require(self, kind: str) -> Processor[Any]:
        """Return the kind's processor; BadRequest lists the installed kinds, or says what this kind lacks."""
        processor = self._processors.get(kind)
        if processor is not None:
            return processor
        if kind in self.incomplete:
            raise BadRequest(f"kind {kind} {what_is_missing(self.incomplete[kind])}", code="kind-not-installed")
        if kind in self.broken:
            raise BadRequest(f"kind {kind!r} is installed but broken: {self.broken[kind]}", code="unknown-kind")
        raise BadRequest(f"unknown kind {kind!r}; installed are {', '.join(self._processors)}", code="unknown-kind")

    def without(self, kind: str) -> "Registry":
        """Return a registry without this kind."""
        others = {name: made for name, made in self._processors.items() if name != kind}
        return Registry(others, self.broken, self.incomplete)


def load(points: Iterable[EntryPoint]) -> Registry:
    """Load plug-ins. One that fails is recorded in `broken` and logged; the others load regardless.

    Checks for the modules of an extra without importing them, because services must not load them.
    """
    processors: dict[str, Processor[Any]] = {}
    broken: dict[str, str] = {}
    for point in points:
        try:
            if point.name in processors:
                raise TypeError(f"a second plug-in for the kind {point.name!r}; uninstall one of them")
            processors[point.name] = _make(point)
        except Exception as error:
            reason = f"{point.value} of {_distribution(point)}: {type(error).__name__}: {error}"
            broken[point.name] = one_line(without_paths(reason))[:_SHOWN_CHARS]
            log.exception("plug-in %s cannot be loaded: %s", point.name, reason)
    incomplete = {kind: made for kind, made in processors.items() if missing_modules(made)}
    for kind, made in incomplete.items():
        log.info("kind %s %s", kind, what_is_missing(made))
    return Registry({kind: made for kind, made in processors.items() if kind not in incomplete}, broken, incomplete)


def missing_modules(processor: Processor[Any]) -> tuple[str, ...]:
    """Return the modules of the kind's extra that are not installed."""
    return tuple(module for module in processor.extra.modules if not _is_there(module)) if processor.extra else ()


def what_is_missing(processor: Processor[Any]) -> str:
    """Return a message with the kind's missing extra and how to install it."""
    extra = processor.extra
    missing = ", ".join(missing_modules(processor))
    return f'needs the extra: pip install "{extra.install if extra else ""}" (not installed: {missing})'


@lru_cache(maxsize=128)
def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # a finder refuses the name, or the loaded module has no spec
        return False


@lru_cache(maxsize=1)
def all_kinds() -> Registry:
    """Return every installed kind, including `diagnostics`, for children and the aggregator: they run accepted jobs."""
    return load(entry_points(group=GROUP))


@lru_cache(maxsize=2)
def installed(diagnostics: bool = False) -> Registry:
    """Return the kinds that clients may submit; `diagnostics` can kill workers, so the operator has to enable it."""
    return all_kinds() if diagnostics else all_kinds().without(DIAGNOSTICS)


def parse_options(processor: Processor[Any], given: Mapping[str, object]) -> Options:
    """Validate a client's options; converts texts (query parameters) to the types that the model asks for.

    BadRequest names the wrong options and lists those of the kind.
    """
    model = processor.options_model
    try:
        return model.model_validate(dict(given), strict=False)
    except ValidationError as error:
        known = ", ".join(model.model_fields) or "none"
        wrong = "; ".join(_complaint(dict(detail)) for detail in error.errors(include_url=False))
        raise BadRequest(f"{wrong} (this kind's options: {known})", code="bad-option") from error


def options_json(options: Options) -> bytes:
    """Return the canonical JSON of options: only the options that were given, names sorted, no spaces.

    Values keep their inner order, which matters for a map of derived columns.
    """
    given = options.model_dump(mode="json", exclude_unset=True)
    return json.dumps(dict(sorted(given.items())), separators=(",", ":")).encode()


def options_from_json(processor: Processor[Any], document: bytes) -> Options:
    """Parse what options_json() wrote; BadRequest if this version of the plug-in rejects it."""
    try:
        given = json.loads(document or b"{}")
    except ValueError as error:
        raise BadRequest(f"options are not valid JSON: {error}", code="bad-option") from error
    if not isinstance(given, dict):
        raise BadRequest("options must be a JSON object", code="bad-option")
    return parse_options(processor, given)


def _make(point: EntryPoint) -> Processor[Any]:
    found = point.load()
    if not (isinstance(found, type) and issubclass(found, Processor)):
        raise TypeError(f"{found!r} is not a subclass of regather.Processor")
    return found()


def _distribution(point: EntryPoint) -> str:
    return f"distribution {point.dist.name} {point.dist.version}" if point.dist else "an unknown distribution"


def _complaint(detail: Mapping[str, Any]) -> str:
    name = ".".join(str(part) for part in detail["loc"]) or "options"
    if detail["type"] == "extra_forbidden":
        return f"option {name!r} is unknown"
    if detail["type"] == "missing":
        return f"option {name!r} is missing"
    return f"option {name!r} is {_shown(detail['input'])}: {_shorter(detail['msg'])}"


def _shown(value: object) -> str:
    """Return a value as text for an error message, shortened; Python cannot print a number of thousands of digits."""
    try:
        return _shorter(repr(value))
    except ValueError:
        return f"a {type(value).__name__} that is too long to show"


def _shorter(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."
