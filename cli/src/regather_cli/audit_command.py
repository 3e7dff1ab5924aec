"""`regather audit --from-beginning`: checks that the topics hold exactly one right final for every job."""

import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from regather.audit.findings import Inconclusive, Violation
from regather.core.ids import is_job_id
from regather.core.model import JobId
from regather.topics.layout import Topics
from regather.transport.kafka import KafkaTransport
from regather_cli.audit import AuditOptions
from regather_cli.audit import audit as run_audit
from regather_cli.running import (
    DEFAULT_BOOTSTRAP,
    EXIT_FAILED,
    EXIT_INCONCLUSIVE,
    EXIT_USAGE,
    Bootstrap,
    Json,
    Prefix,
    run,
)

_EXIT = {"clean": 0, "violations": EXIT_FAILED, "inconclusive": EXIT_INCONCLUSIVE}
_MEANS = {
    Violation.UNFINISHED: "sealed jobs without a final after their deadline",
    Violation.DUPLICATE_FINALS: "finals that are not the only one of their version",
    Violation.GHOSTS: "finals of jobs that were never opened",
    Violation.WRONG: "finals that disagree with the outcomes",
    Violation.FOREIGN: "finals that contain data of another submission",
    Violation.DEAD_LETTERS_MISSING: "dead letters that a final names, but that do not exist",
    Violation.SEGMENTS_WRONG: "segments that do not match their final",
    Violation.EXECUTIONS: "shards that were executed more than four times",
    Violation.UNREAD: "records of a later release, which this one skips: audit with that release",
}
_WHY_INCONCLUSIVE = {
    Inconclusive.OPENED_GONE: "retention deleted the job's first event",
    Inconclusive.DEAD_LETTER_GONE: "retention deleted the dead letter",
    Inconclusive.SEGMENT_GONE: "retention deleted the segments",
    Inconclusive.KIND_UNKNOWN: "the kind is not installed here, so its bytes were not compared",
    Inconclusive.LOG_TIME: "overdue by this machine's clock, but the log gets no records: are the aggregators running?",
    Inconclusive.UNREADABLE: "this version cannot read an event",
}


def _job_id(text: str | None) -> str | None:
    if text is not None and not is_job_id(text.lower()):
        raise typer.BadParameter(f"{text!r} is not a job's id, such as 01a213da-5d73-7db9-ba01-915d67659584")
    return text and text.lower()


def audit(
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="confirm that every record of four topics is read")
    ] = False,
    job: Annotated[str | None, typer.Option(help="check only this job", callback=_job_id)] = None,
    grace: Annotated[float, typer.Option(min=0, help="seconds after its deadline in which a final may come")] = 60.0,
    limit_violations: Annotated[int, typer.Option(min=0, help="most violations to list; all are counted")] = 100,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    prefix: Prefix = "",
    as_json: Json = False,
) -> None:
    """Check your own topics for exactly one right final per job and version. Only reads.

    Exit codes: 0 clean, 1 violations, 3 inconclusive without violations. The last line is one JSON object.
    """
    if not from_beginning:
        typer.echo("regather: an audit reads whole topics, which may take long; add --from-beginning", err=True)
        raise typer.Exit(EXIT_USAGE)
    options = AuditOptions(JobId(job) if job else None, grace, limit_violations)
    run(_audit(bootstrap, Topics(prefix), options, as_json=as_json))


async def _audit(bootstrap: str, topics: Topics, options: AuditOptions, *, as_json: bool) -> int:
    transport = KafkaTransport(bootstrap, client_id="regather-audit")
    try:
        document = await run_audit(transport, topics, options)
    finally:
        await transport.close()
    if not as_json:
        for line in _lines(document):
            typer.echo(line)
    typer.echo(json.dumps(document))
    return _EXIT[document["audit"]]


def _lines(document: dict[str, Any]) -> Iterator[str]:
    yield (
        f"{document['jobs']} sealed jobs ({document['open']} still open), {document['finals']} finals, "
        f"{document['shards']} shards, {document['dead_letters']} dead letters, read in {document['seconds']} s"
    )
    yield (
        f"{document['duplicates_folded']} duplicate outcomes were dropped; no shard was executed more than "
        f"{document['executions_max']} times"
    )
    for violation, means in _MEANS.items():
        if document[violation.value]:
            yield f"WRONG   {document[violation.value]:>6}  {means}"
    for why, means in _WHY_INCONCLUSIVE.items():
        if document["inconclusive"].get(why.value):
            yield f"inconclusive  {document['inconclusive'][why.value]:>6}  {means}"
    for entry in document["violations"]:
        yield f"  {entry['violation']}: job {entry['job']} version {entry['version']}: {entry['detail']}"
    yield {
        "clean": "clean: exactly one right final for every job",
        "inconclusive": "inconclusive: no violations, but some checks could not be made",
        "violations": "violations: not every job has exactly one right final",
    }[document["audit"]]
