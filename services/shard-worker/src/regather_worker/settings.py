"""Settings of the shard worker."""

import os

from pydantic import Field

from regather.core.retry import MAX_DELAY_MS
from regather.service.settings import ServiceSettings


class WorkerSettings(ServiceSettings):
    """Environment names: REGATHER_ and the field's name in capitals."""

    slots: int = Field(default_factory=lambda: os.cpu_count() or 1, ge=1, le=256, description="shards that run at once")
    drain_s: float = Field(default=20.0, gt=0, description="time for running shards to end at a shutdown")
    commit_s: float = Field(default=0.5, gt=0, description="interval between commits of offsets")
    retry_base_ms: int = Field(default=200, ge=1, description="first backoff between attempts, before jitter")
    retry_cap_ms: int = Field(
        default=10_000, ge=1, le=MAX_DELAY_MS, description="largest backoff between attempts, before jitter"
    )
    max_bad_rows: int = Field(
        default=16,
        ge=0,
        le=100,
        description="most bad rows to search for in a shard that failed for good (on_error=skip); 0: none",
    )
    max_open_records: int = Field(default=4096, ge=1, description="records of a partition read and not acknowledged")
    max_open_bytes: int = Field(default=32 * 1024 * 1024, ge=1, description="the same in bytes")
    cpu_limit_s: int = Field(default=0, ge=0, le=3600, description="CPU seconds of one shard; 0: no limit")
    memory_limit_bytes: int = Field(default=0, ge=0, description="memory of one shard above an idle child; 0: no limit")
