"""Settings of the gateway."""

from pydantic import Field

from regather.service.settings import ServiceSettings, renamed

_MIB, _GIB = 1024**2, 1024**3


class GatewaySettings(ServiceSettings):
    """Environment names: REGATHER_ and the field's name in capitals."""

    http_port: int = Field(default=8080, ge=0, le=65535, description="0: any free port")
    max_concurrent_jobs: int = Field(default=100, ge=1, le=10_000, description="uploads and waits at once; then 503")
    max_body_bytes: int = Field(default=4 * _GIB, ge=1024, description="longest request body; then 413")
    max_spool_bytes: int = Field(
        default=_GIB,
        ge=1024,
        description="longest data of a JSON or form request, or of a file that is cut as a whole; then 413",
    )
    max_result_bytes: int = Field(
        default=256 * _MIB,
        ge=1024,
        le=_GIB,
        description="same value as the aggregators'; a job whose result is certain to be larger is refused",
    )
    spool_dir: str = Field(default="", description="folder of such data above 1 MiB; empty: the system's default")
    cut_slots: int = Field(default=2, ge=1, le=64, description="files that are cut at once, each in a killable child")
    cut_timeout_s: float = Field(default=300.0, gt=0, description="time limit of cutting one file; then it is killed")
    cut_memory_bytes: int = Field(default=4 * _GIB, ge=0, description="memory of one cut above an idle child; 0: any")
    body_idle_timeout_s: float = Field(default=60.0, gt=0, description="time without a byte of the body; then 408")
    max_wait_s: float = Field(default=30.0, ge=0, le=300, description="cap of `Prefer: wait=N`")
    sync_wait_s: float = Field(
        default=30.0,
        gt=0,
        le=300,
        validation_alias=renamed("REGATHER_SYNC_WAIT_S", "REGATHER_DOOR_WAIT_S"),
        description="longest wait of the synchronous endpoints for the end of a job",
    )
    default_timeout_s: float = Field(default=15.0, ge=0.1, le=3600, description="per shard, if the client gives none")
    default_deadline_s: float = Field(default=3600.0, ge=1, description="per job, if the client gives none")
    max_deadline_s: float = Field(default=3600.0, ge=1, description="longest deadline that a client may ask for")
    window_bytes: int = Field(default=16 * _MIB, ge=_MIB, description="bytes of one upload sent and not yet acked")
    all_windows_bytes: int = Field(default=128 * _MIB, ge=_MIB, description="the same for all uploads together")
    all_sides_bytes: int = Field(
        default=128 * _MIB, ge=8 * _MIB, description="side files of all uploads together; above that 503"
    )
    window_records: int = Field(default=20_000, ge=1, description="shards of one upload sent and not yet acked")
    ack_timeout_s: float = Field(default=20.0, gt=0, description="longest wait for the ack of a record; then 503")
    opened_before_shards: bool = Field(
        default=True, description="wait for the ack of `opened` before the first shard, so that no outcome precedes it"
    )
    heartbeat_s: float = Field(
        default=10.0,
        gt=0,
        validation_alias=renamed("REGATHER_HEARTBEAT_S", "REGATHER_SIGN_OF_LIFE_S"),
        description="interval of a slow upload's heartbeats; at most half of REGATHER_HEARTBEAT_TIMEOUT_S",
    )
    max_ended_jobs: int = Field(default=100_000, ge=1, description="ended jobs whose status is kept in memory")
    max_inline_bytes: int = Field(default=64 * _MIB, ge=0, description="small results kept in memory, in total")
    drain_s: float = Field(default=25.0, gt=0, description="time for running uploads to end after SIGTERM")
