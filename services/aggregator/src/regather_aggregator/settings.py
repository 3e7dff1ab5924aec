"""Settings of the aggregator."""

from pydantic import Field

from regather.service.settings import ServiceSettings, renamed


class AggregatorSettings(ServiceSettings):
    """Environment names: REGATHER_ and the field's name in capitals."""

    merge_slots: int = Field(default=1, ge=1, le=64, description="merges that run at once, each in a killable child")
    merge_timeout_s: float = Field(default=60.0, gt=0, le=3600, description="a merge is killed after")
    max_result_bytes: int = Field(
        default=256 * 1024**2, ge=1024, le=1024**3, description="largest result of a job; it is held in memory twice"
    )
    max_output_bytes: int = Field(
        default=1024**3, ge=1024, description="outputs of all shards of a job together; a job with more fails"
    )
    outputs_memory_bytes: int = Field(
        default=512 * 1024**2, ge=0, description="outputs of open jobs held in memory; more go to spill files"
    )
    spill_dir: str = Field(
        default="",
        validation_alias=renamed("REGATHER_SPILL_DIR", "REGATHER_SCRATCH_DIR"),
        description="where the spill files are; empty: the system's own choice",
    )
    spill_bytes: int = Field(
        default=8 * 1024**3,
        ge=0,
        validation_alias=renamed("REGATHER_SPILL_BYTES", "REGATHER_SCRATCH_BYTES"),
        description="spill files of all open jobs together",
    )
    checkpoint_log_bytes: int = Field(
        default=64 * 1024**2, ge=1, description="a job is saved when a restart would read more of the log for it"
    )
    heartbeat_timeout_s: float = Field(
        default=60.0,
        gt=0,
        validation_alias=renamed("REGATHER_HEARTBEAT_TIMEOUT_S", "REGATHER_SILENCE_S"),
        description="an unsealed upload without a heartbeat for so long is ended",
    )
    tick_s: float = Field(default=5.0, gt=0, description="between ticks while jobs are open")
    progress_s: float = Field(default=1.0, gt=0, description="between progress reports of running jobs")
    drain_s: float = Field(default=10.0, gt=0, description="limit of the shutdown")
