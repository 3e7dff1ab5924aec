"""Settings of the aggregator."""

from pydantic import Field

from regather.service.settings import ServiceSettings, renamed


class AggregatorSettings(ServiceSettings):
    """Environment names: REGATHER_ and the field's name in capitals."""

    merge_slots: int = Field(default=1, ge=1, le=64, description="merges that run at once, each in a killable child")
    merge_timeout_s: float = Field(default=60.0, gt=0, le=3600, description="time limit of a merge; then it is killed")
    max_result_bytes: int = Field(
        default=256 * 1024**2, ge=1024, le=1024**3, description="largest result of a job; it is held in memory twice"
    )
    max_output_bytes: int = Field(
        default=1024**3, ge=1024, description="outputs of all shards of a job together; above that the job fails"
    )
    outputs_memory_bytes: int = Field(
        default=512 * 1024**2, ge=0, description="outputs of open jobs held in memory; the rest goes to spill files"
    )
    spill_dir: str = Field(
        default="",
        validation_alias=renamed("REGATHER_SPILL_DIR", "REGATHER_SCRATCH_DIR"),
        description="folder of the spill files; empty: the system's default",
    )
    spill_bytes: int = Field(
        default=8 * 1024**3,
        ge=0,
        validation_alias=renamed("REGATHER_SPILL_BYTES", "REGATHER_SCRATCH_BYTES"),
        description="spill files of all open jobs together",
    )
    checkpoint_log_bytes: int = Field(
        default=64 * 1024**2, ge=1, description="log that a restart may read for one job; above that, a checkpoint"
    )
    heartbeat_timeout_s: float = Field(
        default=60.0,
        gt=0,
        validation_alias=renamed("REGATHER_HEARTBEAT_TIMEOUT_S", "REGATHER_SILENCE_S"),
        description="an unsealed upload ends after this time without a heartbeat",
    )
    tick_s: float = Field(default=5.0, gt=0, description="interval between ticks while jobs are open")
    progress_s: float = Field(default=1.0, gt=0, description="interval between progress reports of running jobs")
    drain_s: float = Field(default=10.0, gt=0, description="time for running merges to end at a shutdown")
