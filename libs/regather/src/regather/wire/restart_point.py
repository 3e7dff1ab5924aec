"""The metadata of a commit on job-events, as a small JSON document: where a restart begins to read, and merge marks."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from regather.core.errors import WireError
from regather.core.merge_attempts import Marks
from regather.core.model import JobId


@dataclass(frozen=True, slots=True)
class RestartPoint:
    """What a restart has to read and to consider besides job-events.

    `results_from` and `checkpoints_from` are offsets of these topics; None: nothing there has to be read.
    `clean_shutdown`: the owner stopped in order. `merges` counts the merges that began and have not ended.
    """

    results_from: int | None = None
    checkpoints_from: int | None = None
    clean_shutdown: bool = False
    merges: Marks = field(default_factory=dict)


def encode_restart_point(point: RestartPoint) -> str:
    """Return the metadata; empty if every field has its default."""
    document: dict[str, object] = {}
    if point.results_from is not None:
        document["results_from"] = point.results_from
    if point.checkpoints_from is not None:
        document["checkpoints_from"] = point.checkpoints_from
    if point.clean_shutdown:
        document["farewell"] = True
    if point.merges:
        document["merges"] = [[job_id, version, count] for (job_id, version), count in point.merges.items()]
    return json.dumps(document, separators=(",", ":")) if document else ""


def decode_restart_point(metadata: str) -> RestartPoint:
    """Read what encode_restart_point() wrote; raise WireError for anything else."""
    if not metadata:
        return RestartPoint()
    try:
        document = json.loads(metadata)
        merges = {(JobId(str(job)), int(version)): int(count) for job, version, count in document.get("merges", ())}
        return RestartPoint(
            _offset(document, "results_from"),
            _offset(document, "checkpoints_from"),
            document.get("farewell") is True,
            merges,
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise WireError(f"the metadata of a commit cannot be read: {error!r}") from error


def _offset(document: Mapping[str, object], name: str) -> int | None:
    found = document.get(name)
    if found is not None and not isinstance(found, int):
        raise TypeError(f"{name} is {found!r}")
    return found
