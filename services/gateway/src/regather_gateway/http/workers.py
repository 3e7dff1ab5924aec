"""The list of workers: `GET /v1/workers`."""

from dataclasses import asdict

from fastapi import APIRouter
from pydantic import BaseModel, Field

from regather_gateway.gateway import Parts
from regather_gateway.views.worker_view import SeenWorker

router = APIRouter()


class WorkerDocument(BaseModel):
    """The latest report of a worker. `state` is live, or stale after ten seconds without a report."""

    worker: str
    state: str
    age_s: float = Field(description="seconds since its last report")
    host: str
    version: str
    kinds: list[str]
    slots: int
    busy: int
    queued: int = Field(description="shards that wait for a slot")
    partitions: int
    rss_bytes: int
    load: float = Field(description="the host's one-minute load average")
    lag_s: float = Field(description="age of the oldest shard that was read and is not acknowledged")


class WorkerList(BaseModel):
    """All workers that reported in the last ten minutes."""

    workers: list[WorkerDocument]


@router.get("/v1/workers", response_model=WorkerList)
async def list_workers(gateway: Parts) -> WorkerList:
    """List the known workers, each with its latest report."""
    return WorkerList(workers=[_worker_document(seen) for seen in gateway.workers.workers()])


def _worker_document(seen: SeenWorker) -> WorkerDocument:
    """Return the client's view of a worker."""
    state = "live" if seen.live else "stale"
    return WorkerDocument(state=state, age_s=round(seen.age_s, 1), **asdict(seen.report))
