"""Settings of the aggregator."""

from pydantic import Field

from regather.runtime.settings import ServiceSettings


class AggregatorSettings(ServiceSettings):
    """Environment names: REGATHER_ and the field's name in capitals."""

    merge_slots: int = Field(default=1, ge=1, le=64, description="merges that run at once, each in a killable child")
    merge_timeout_s: float = Field(default=60.0, gt=0, le=3600, description="a merge is killed after")
    max_result_bytes: int = Field(
        default=256 * 1024**2, ge=1024, le=1024**3, description="largest result of a job; it is held in memory twice"
    )
    silence_s: float = Field(default=60.0, gt=0, description="an unsealed upload is closed after this long silence")
    tick_s: float = Field(default=5.0, gt=0, description="between ticks while jobs are open")
    progress_s: float = Field(default=1.0, gt=0, description="between progress reports of running jobs")
    drain_s: float = Field(default=10.0, gt=0, description="limit of the shutdown")
