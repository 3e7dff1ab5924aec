"""Settings that all services share. They are read once from the environment, are frozen, and are passed as values."""

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from regather.topics.layout import Topics


def renamed(now: str, before: str) -> AliasChoices:
    """Return the environment name of a setting, and its name in the previous release, which is still read."""
    return AliasChoices(now, before)


class ServiceSettings(BaseSettings):
    """Base of each service's settings. Environment names are REGATHER_ and the field's name in capitals."""

    model_config = SettingsConfigDict(env_prefix="REGATHER_", frozen=True, extra="ignore", populate_by_name=True)

    kafka_bootstrap_servers: str = Field(
        default="127.0.0.1:9092",
        validation_alias="KAFKA_BOOTSTRAP_SERVERS",
        description="host:port of one or more brokers, separated by commas",
    )
    topic_prefix: str = Field(default="", pattern=r"^[a-zA-Z0-9._-]*$", description="put before every topic and group")
    http_host: str = Field(default="127.0.0.1", description="address of the service's HTTP port")
    http_port: int = Field(default=0, ge=0, le=65535, description="0 takes any free port")
    ready_file: str = Field(default="", description="where to write the bound HTTP address as JSON, once serving")
    log_level: str = Field(default="info", pattern="^(debug|info|warning|error)$")
    session_timeout_ms: int = Field(
        default=20_000, ge=6_000, le=300_000, description="the group drops a member without a heartbeat after"
    )
    diagnostics: bool = Field(default=False, description="offer the kind `diagnostics`, for trying faults")

    @property
    def topics(self) -> Topics:
        """The topic names of this installation."""
        return Topics(self.topic_prefix)
