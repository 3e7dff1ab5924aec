"""The command `regather`. Exit codes: 0 succeeded, 1 failed, 2 usage, 3 partial, 124 timed out."""

import asyncio
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from regather.service.lifecycle import on_stop
from regather_cli import doctor as doctor_checks
from regather_cli.audit_command import audit
from regather_cli.client import ApiError, Client, JobDocument, Submission, WaitTimeout, has_ended
from regather_cli.progress import Progress
from regather_cli.running import EXIT_FAILED, EXIT_PARTIAL, EXIT_TIMED_OUT, Json, run
from regather_cli.stack import Stack, StackSettings
from regather_cli.supervision import Exit, Supervision
from regather_cli.topics import topics_app

_EXIT_BY_STATE = {"succeeded": 0, "partial": EXIT_PARTIAL}

app = typer.Typer(
    help="Cut a heavy job into shards, process them in parallel, gather one ordered result.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

app.add_typer(topics_app, name="topics")
app.command("audit")(audit)

Url = Annotated[str, typer.Option(envvar="REGATHER_URL", help="the gateway")]
_DEFAULT_URL = "http://127.0.0.1:8080"


@app.command()
def up(
    workers: Annotated[int, typer.Option(min=1, max=64, help="worker processes")] = 2,
    port: Annotated[int, typer.Option(min=1, max=65535, help="the gateway's HTTP port")] = 8080,
    data_dir: Annotated[Path | None, typer.Option(help="keep the broker's data and the logs here")] = None,
    diagnostics: Annotated[bool, typer.Option(help="offer the kind `diagnostics`, which simulates faults")] = False,
) -> None:
    """Run everything on this machine until Ctrl-C: a broker, a gateway, workers, an aggregator."""
    environment = {"REGATHER_DIAGNOSTICS": "true"} if diagnostics else {}
    run(_up(StackSettings(workers=workers, gateway_port=port, environment=environment), data_dir))


async def _up(settings: StackSettings, data_dir: Path | None) -> int:
    stop = asyncio.Event()
    async with on_stop(stop.set):
        typer.echo("starting ...", err=True)
        async with Stack(settings, home=data_dir) as stack:
            for service in stack.services:
                typer.echo(f"{service.name:<14}{service.url}  pid {service.pid}")
            url = stack.gateway_url
            typer.echo(f"{'broker':<14}{stack.broker}\n{'logs':<14}{stack.home}\n")
            typer.echo(f"try:  curl -T big.bin -X POST '{url}/v1/jobs?kind=bytes.digest'\nend:  Ctrl-C")
            await _supervised(stack, stop)
            typer.echo("stopping ...", err=True)
        left = stack.leftover_pids()
    if left:
        typer.echo(f"regather: these processes did not end: {left}; kill them by pid", err=True)
    return EXIT_FAILED if left else 0


async def _supervised(stack: Stack, stop: asyncio.Event) -> None:
    """Wait for `stop`; until then restart every service that ends, with a message."""

    def tell(end: Exit) -> None:
        log = stack.home / f"{end.service}.log"
        typer.echo(f"regather: {end.service} ended with code {end.code}; restarting it. See {log}", err=True)

    watching = asyncio.create_task(Supervision(lambda: stack.services, on_exit=tell).run(), name="supervision")
    try:
        await stop.wait()
    finally:
        watching.cancel()
        await asyncio.wait([watching])


@app.command()
def submit(  # noqa: PLR0913 - a command's parameters are its options
    file: Annotated[Path, typer.Argument(help="the body of the job; - reads standard input")],
    kind: Annotated[str, typer.Option(help="what to run, such as bytes.digest; GET /v1/kinds lists all kinds")],
    shard_size: Annotated[int | None, typer.Option(help="target size of a shard in bytes")] = None,
    option: Annotated[list[str] | None, typer.Option(help="an option of the kind: NAME=VALUE, repeatable")] = None,
    side: Annotated[
        Path | None, typer.Option(help="a second, small file, for kinds that take one: table.etl joins it")
    ] = None,
    on_error: Annotated[str | None, typer.Option(help="fail: a failed shard ends the job; skip: it is a gap")] = None,
    wait: Annotated[bool, typer.Option(help="follow the job to its end and print the result")] = False,
    timeout: Annotated[float, typer.Option(help="with --wait: longest wait in seconds")] = 3600.0,
    url: Url = _DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Submit a file as one job."""
    submission = Submission(kind, _options(option or []), shard_size, on_error)
    run(_submit(submission, file, side, url=url, wait_s=timeout if wait else 0, as_json=as_json))


def _options(pairs: list[str]) -> dict[str, str]:
    malformed = [pair for pair in pairs if "=" not in pair]
    if malformed:
        raise typer.BadParameter(f"{malformed[0]!r} is not NAME=VALUE", param_hint="--option")
    return dict(pair.split("=", 1) for pair in pairs)


async def _submit(
    submission: Submission, file: Path, side: Path | None, *, url: str, wait_s: float, as_json: bool
) -> int:
    for given in ([] if str(file) == "-" else [file]) + ([side] if side else []):
        if not given.is_file():
            raise ApiError(400, f"{given} is not a file")
    async with Client(url) as client:
        with tempfile.TemporaryDirectory() as scratch:
            document = await client.submit(submission, _spooled(file, Path(scratch)), side)
        if not wait_s:
            _print(document, as_json=as_json)
            return 0
        return await _follow(client, document, wait_s, as_json=as_json)


async def _follow(client: Client, document: JobDocument, wait_s: float, *, as_json: bool) -> int:
    """Show a job's progress to its end, then its result."""
    progress = Progress()
    try:
        document = await client.wait(
            document["job_id"], timeout_s=wait_s, on_progress=progress.show, version=document["version"]
        )
    except WaitTimeout as late:
        progress.close()
        typer.echo(f"regather: {late}; check it with: regather status {late.document['job_id']}", err=True)
        _print(late.document, as_json=as_json)
        return EXIT_TIMED_OUT
    progress.close()
    result = await client.result(document["job_id"]) if document["state"] in _EXIT_BY_STATE else b""
    _print(document, as_json=as_json, result=result)
    return _exit_code(document)


def _spooled(file: Path, scratch: Path) -> Path:
    """Return the file itself; for `-` copy standard input to a file, because its length must be known."""
    if str(file) != "-":
        return file
    spool = scratch / "stdin"
    with spool.open("wb") as target:
        shutil.copyfileobj(sys.stdin.buffer, target)
    return spool


@app.command()
def status(
    job: Annotated[str, typer.Argument(help="the job's id")], url: Url = _DEFAULT_URL, as_json: Json = False
) -> None:
    """Print the state of a job."""
    run(_status(job, url, as_json=as_json))


async def _status(job_id: str, url: str, *, as_json: bool) -> int:
    async with Client(url) as client:
        document = await client.status(job_id)
    _print(document, as_json=as_json)
    return _exit_code(document) if has_ended(document) else 0


@app.command()
def redrive(
    job: Annotated[str, typer.Argument(help="the job's id")],
    shards: Annotated[str, typer.Option(help="such as 3,5-9; default: all that failed or have bad rows")] = "",
    timeout_s: Annotated[float | None, typer.Option(help="new limit of one execution of a shard")] = None,
    wait: Annotated[bool, typer.Option(help="follow the new version to its end and print the result")] = False,
    timeout: Annotated[float, typer.Option(help="with --wait: longest wait in seconds")] = 3600.0,
    url: Url = _DEFAULT_URL,
    as_json: Json = False,
) -> None:
    """Run shards of an ended job again, as its next version.

    Shards that never ran are always included. All other shards keep their outcomes.
    """
    run(_redrive(job, shards, timeout_s, url=url, wait_s=timeout if wait else 0, as_json=as_json))


async def _redrive(job_id: str, shards: str, timeout_s: float | None, *, url: str, wait_s: float, as_json: bool) -> int:
    async with Client(url) as client:
        document = await client.redrive(job_id, shards, timeout_s)
        if wait_s:
            return await _follow(client, document, wait_s, as_json=as_json)
    _print(document, as_json=as_json)
    return 0


@app.command()
def doctor(port: Annotated[int, typer.Option(help="the port for `regather up`")] = 8080, as_json: Json = False) -> None:
    """Check that this machine can run Regather."""
    checks = doctor_checks.examine(port)
    document = doctor_checks.report(checks)
    if as_json:
        typer.echo(json.dumps(document))
    else:
        for check in checks:
            mark = "ok  " if check.ok else "FAIL" if check.needed else "note"
            typer.echo(f"{mark}  {check.name:<11} {check.detail}")
    raise typer.Exit(0 if document["ok"] else EXIT_FAILED)


@app.command()
def demo(
    keep: Annotated[Path | None, typer.Option(help="keep logs and the broker's data here")] = None,
) -> None:
    """Start everything, run and verify jobs of several kinds and a poisoned one. The last line is one JSON object."""
    from regather_cli.demo.run import run_demo

    run(run_demo(keep))


def _exit_code(document: JobDocument) -> int:
    return _EXIT_BY_STATE.get(document["state"], EXIT_FAILED)


def _print(document: JobDocument, *, as_json: bool, result: bytes = b"") -> None:
    if as_json:
        extra = {"output": _readable(result)} if result else {}
        typer.echo(json.dumps(document | extra))
        return
    typer.echo(f"{document['job_id']}  {document['kind']}  {document['state']}", err=bool(result))
    if document.get("error"):
        typer.echo(f"  {document['error']}", err=True)
    if result:
        sys.stdout.buffer.write(result)
        sys.stdout.buffer.flush()


def _readable(result: bytes) -> object:
    """Return the result for the document: JSON as it is, other text as a string, other bytes as their length."""
    try:
        return json.loads(result)
    except ValueError:
        try:
            return result.decode()
        except UnicodeDecodeError:
            return {"bytes": len(result)}


if __name__ == "__main__":
    app()
