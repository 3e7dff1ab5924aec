"""The list of a job's shards: `GET /v1/jobs/{job_id}/shards`."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from regather.core.errors import OffsetOutOfRange
from regather.core.ids import event_partition
from regather.core.status import JobStatus
from regather.transport.base import TopicPartition
from regather.transport.log_reader import LogReader
from regather_gateway.gateway import Parts
from regather_gateway.http.job_answers import awaited_job, json_response
from regather_gateway.http.shard_fold import ShardDocument, ShardFold
from regather_gateway.problems import Problem

router = APIRouter()


class ShardList(BaseModel):
    """A page of shards in sequence order."""

    job_id: str
    version: int
    total: int | None
    shards: list[ShardDocument]
    next_after: int | None


@router.get("/v1/jobs/{job_id}/shards", response_model=ShardList)
async def get_shards(
    request: Request,
    gateway: Parts,
    job_id: str,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 1_000,
    after: Annotated[int, Query(ge=-1, description="next_after of the previous page")] = -1,
) -> Response:
    """List the job's shards with their states, in sequence order, read from the log on demand."""
    status, _ = await awaited_job(request, gateway, job_id)
    partitions = gateway.producers.current().event_partitions
    window = range(after + 1, after + 1 + limit)
    topic = gateway.settings.topics.job_events
    page = await _list_shards(gateway.events, topic, partitions, status, window)
    link = f'</v1/jobs/{job_id}/shards?limit={limit}&after={page.next_after}>; rel="next"'
    return json_response(page, {"Link": link} if page.next_after is not None else {})


async def _list_shards(reader: LogReader, topic: str, partitions: int, status: JobStatus, window: range) -> ShardList:
    """Return the shards of a job whose numbers are in `window`; Problem 410 if retention deleted its events."""
    owner = status.owner
    fold = ShardFold(owner, status.total, first=window.start, limit=len(window))
    if status.events_offset is not None:
        tp = TopicPartition(topic, event_partition(owner.job_id, partitions))
        try:
            await reader.scan(tp, status.events_offset, fold.fold)
        except OffsetOutOfRange:
            detail = "the job's shards cannot be listed: its events are older than the retention of job-events"
            raise Problem(410, "events-gone", detail, job_id=owner.job_id) from None
    end = fold.highest + 1 if status.total is None else status.total
    return ShardList(
        job_id=owner.job_id,
        version=owner.version,
        total=status.total,
        shards=fold.shards(),
        next_after=window.stop - 1 if window.stop < end else None,
    )
