"""`regather topics`: creates missing topics, and compares topics and brokers with the required settings."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from regather.service.topics_command import TopicsSettings, apply_topics, check_topics, topics_transport
from regather.topics.layout import Size
from regather.topics.rules import Difference
from regather_cli.running import DEFAULT_BOOTSTRAP, EXIT_FAILED, Bootstrap, Json, Prefix, run

topics_app = typer.Typer(help="Create the topics, and check topics and brokers.", no_args_is_help=True)

Replication = Annotated[int, typer.Option(min=1, max=9, envvar="REGATHER_REPLICATION", help="copies of each partition")]
LongestJob = Annotated[
    float, typer.Option(min=1, envvar="REGATHER_MAX_DEADLINE_S", help="the gateways' limit of deadlines, in seconds")
]
_SIZE_HELP = "partition counts: embedded, compose or production"


@topics_app.command()
def apply(
    size: Annotated[Size, typer.Option(help=_SIZE_HELP)] = Size.PRODUCTION,
    replication: Replication = 1,
    longest_job: LongestJob = 3600.0,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    prefix: Prefix = "",
    as_json: Json = False,
) -> None:
    """Create missing topics; add partitions to shards.* topics that have fewer than the size requires."""
    settings = _settings(bootstrap, prefix, replication, longest_job)
    run(_apply(settings, size, as_json=as_json))


async def _apply(settings: TopicsSettings, size: Size, *, as_json: bool) -> int:
    transport = topics_transport(settings)
    try:
        applied = await apply_topics(transport, settings, size)
    finally:
        await transport.close()
    if as_json:
        typer.echo(json.dumps(asdict(applied)))
        return 0
    for name in applied.created:
        typer.echo(f"created  {name}")
    for name, partitions in applied.grown.items():
        typer.echo(f"grown    {name}  {partitions} partitions")
    if not applied.created and not applied.grown:
        typer.echo("every topic exists; check their settings with: regather topics check")
    return 0


@topics_app.command()
def check(
    size: Annotated[Size | None, typer.Option(help=f"{_SIZE_HELP}; without it any that fit together")] = None,
    replication: Replication = 1,
    longest_job: LongestJob = 3600.0,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    prefix: Prefix = "",
    as_json: Json = False,
) -> None:
    """Compare topics and brokers with the required settings; print each difference with the command that fixes it."""
    settings = _settings(bootstrap, prefix, replication, longest_job)
    run(_check(settings, size, as_json=as_json))


async def _check(settings: TopicsSettings, size: Size | None, *, as_json: bool) -> int:
    transport = topics_transport(settings)
    try:
        found = await check_topics(transport, settings, size)
    finally:
        await transport.close()
    if as_json:
        typer.echo(json.dumps({"ok": not found, "differences": [asdict(difference) for difference in found]}))
    else:
        for line in _lines(found):
            typer.echo(line)
    return EXIT_FAILED if found else 0


def _lines(found: Sequence[Difference]) -> Iterator[str]:
    for difference in found:
        yield f"{difference.subject}: {difference.setting} is {difference.found}, must be {difference.wanted}"
        yield f"  why   {difference.why}"
        yield f"  mend  {difference.command}"
    count = f"{len(found)} difference{'s' if len(found) > 1 else ''}"
    yield count if found else "all topics and brokers have the required settings"


def _settings(bootstrap: str, prefix: str, replication: int, longest_job_s: float) -> TopicsSettings:
    return TopicsSettings(
        kafka_bootstrap_servers=bootstrap,
        topic_prefix=prefix,
        replication=replication,
        max_deadline_s=longest_job_s,
    )
