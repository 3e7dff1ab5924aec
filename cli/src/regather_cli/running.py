"""Runs a command to its exit code; errors that a user can correct become one line on standard error."""

import asyncio
import re
from collections.abc import Coroutine
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from regather.core.errors import TransportError
from regather_cli.client import ApiError
from regather_cli.stack import START_ERRORS

EXIT_FAILED, EXIT_USAGE, EXIT_PARTIAL, EXIT_TIMED_OUT = 1, 2, 3, 124
EXIT_INCONCLUSIVE = 3

Json = Annotated[bool, typer.Option("--json", help="one JSON object on standard output")]
Bootstrap = Annotated[
    str, typer.Option("--bootstrap", envvar="KAFKA_BOOTSTRAP_SERVERS", help="host:port of one or more brokers")
]


def _topic_prefix(text: str) -> str:
    if not re.fullmatch(r"[a-zA-Z0-9._-]*", text):
        raise typer.BadParameter(f"{text!r} is not a topic prefix; use letters, digits, dots, _ and -")
    return text


Prefix = Annotated[
    str,
    typer.Option(envvar="REGATHER_TOPIC_PREFIX", help="prefix of every topic's name", callback=_topic_prefix),
]
DEFAULT_BOOTSTRAP = "127.0.0.1:9092"


def run(work: Coroutine[Any, Any, int]) -> None:
    """Run a command and exit with its code; print an expected error as one line, without a traceback."""
    try:
        code = asyncio.run(work)
    except (ApiError, TransportError, TimeoutError, ValidationError, *START_ERRORS) as error:
        typer.echo(f"regather: {error}", err=True)
        code = EXIT_USAGE if isinstance(error, ApiError) and error.status in {400, 404, 422} else EXIT_FAILED
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)
