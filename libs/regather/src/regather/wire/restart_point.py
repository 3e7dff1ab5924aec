"""The metadata of a commit on job-events, as a small JSON document: where a restart begins to read, and merge marks."""

from dataclasses import dataclass, field
from typing import NotRequired

from typing_extensions import TypedDict

from regather.core.merge_attempts import Marks
from regather.core.model import JobId
from regather.wire.fields import JsonReader, Natural, to_json


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


class _Document(TypedDict):
    results_from: NotRequired[Natural]
    checkpoints_from: NotRequired[Natural]
    farewell: NotRequired[bool]
    merges: NotRequired[tuple[tuple[str, Natural, Natural], ...]]


_read = JsonReader[_Document](_Document)


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
    return to_json(document).decode() if document else ""


def decode_restart_point(metadata: str) -> RestartPoint:
    """Read what encode_restart_point() wrote; raise WireError for anything else."""
    if not metadata:
        return RestartPoint()
    document = _read(metadata, "the metadata of a commit")
    return RestartPoint(
        document.get("results_from"),
        document.get("checkpoints_from"),
        document.get("farewell", False),
        {(JobId(job), version): count for job, version, count in document.get("merges", ())},
    )
