"""`regather audit --from-beginning`: is there exactly one right final for every job, as far as the log tells?"""

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
    Violation.UNFINISHED: "jobs that were sealed and have no final, though their deadline has passed",
    Violation.DUPLICATE_FINALS: "finals that are not the only one of their version",
    Violation.GHOSTS: "finals of jobs that nobody opened",
    Violation.WRONG: "finals that disagree with the outcomes",
    Violation.FOREIGN: "finals with something of another submission in them",
    Violation.DEAD_LETTERS_MISSING: "dead letters that are named and not there",
    Violation.SEGMENTS_WRONG: "segments that do not fit to their final",
    Violation.EXECUTIONS: "shards that were executed more than four times",
}
_WHY_UNTOLD = {
    Inconclusive.OPENED_GONE: "retention took the job's first event",
    Inconclusive.LETTER_GONE: "retention took the dead letter",
    Inconclusive.SEGMENT_GONE: "retention took the segments",
    Inconclusive.KIND_UNKNOWN: "the kind is not installed here, so its bytes were not compared",
    Inconclusive.LOG_TIME: "overdue by this machine's clock, but nobody writes to the log: are the aggregators running?",
    Inconclusive.UNREADABLE: "an event cannot be read by this version",
}


def _job_id(text: str | None) -> str | None:
    if text is not None and not is_job_id(text.lower()):
        raise typer.BadParameter(f"{text!r} is not a job's id, such as 01a213da-5d73-7db9-ba01-915d67659584")
    return text and text.lower()


def audit(
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="yes, read every record of four topics")
    ] = False,
    job: Annotated[str | None, typer.Option(help="look at this job alone", callback=_job_id)] = None,
    grace: Annotated[float, typer.Option(min=0, help="seconds after its deadline in which a final may come")] = 60.0,
    limit_violations: Annotated[int, typer.Option(min=0, help="list so many; all are counted")] = 100,
    bootstrap: Bootstrap = DEFAULT_BOOTSTRAP,
    prefix: Prefix = "",
    as_json: Json = False,
) -> None:
    """Check the promise on your own topics: one right final per job and version. Reads, and changes nothing.

    Exit codes: 0 clean, 1 violations, 3 none, but something could not be told. The last line is one JSON object.
    """
    if not from_beginning:
        typer.echo("regather: an audit reads the topics from their beginnings; say so with --from-beginning", err=True)
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
        f"{document['duplicates_folded']} outcomes came twice and were dropped; no shard was executed more than "
        f"{document['executions_max']} times"
    )
    for violation, means in _MEANS.items():
        if document[violation.value]:
            yield f"WRONG   {document[violation.value]:>6}  {means}"
    for why, means in _WHY_UNTOLD.items():
        if document["inconclusive"].get(why.value):
            yield f"inconclusive  {document['inconclusive'][why.value]:>6}  {means}"
    for entry in document["violations"]:
        yield f"  {entry['violation']}: job {entry['job']} version {entry['version']}: {entry['detail']}"
    yield {
        "clean": "clean: exactly one right final for every job",
        "inconclusive": "nothing wrong was found; some could not be told",
        "violations": "the promise was broken",
    }[document["audit"]]
