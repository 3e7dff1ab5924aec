"""The answer of a synchronous endpoint: the job's result inside a JSON object, with every digit unchanged.

Theory of operation. Parsing a result and serializing it again would change it: 1e400 becomes infinity, which JSON does
not have; an integer of 5,000 digits cannot be printed; 1.10 becomes 1.1. So this module only checks the result, and
copies its text into the answer. NaN, Infinity and -Infinity, which some writers of JSON emit, become strings of that
name.
"""

import base64
import json
import re

from regather_gateway.problems import Problem

_CONSTANT = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|-?Infinity|NaN')


def answer_json(field: str, content: bytes, media_type: str, *, job_id: str, shards: int) -> bytes:
    """Return the answer's bytes: `{field: result, "job_id": ..., "shards": ...}`.

    The result is embedded by its media type: JSON as it is, NDJSON as an array, other text as a string, other bytes in
    base64. Problem 500 if a result declared as JSON is not valid JSON; 422 if it is nested too deeply to check.
    """
    try:
        result = _result_text(content, media_type)
    except ValueError as error:
        where = f"/v1/jobs/{job_id}/result"
        detail = f"the result is declared as {media_type}, but is not valid ({error}); its bytes are at {where}"
        raise Problem(500, "result-invalid", detail, job_id=job_id) from error
    except RecursionError as error:
        detail = f"the result is nested too deeply for this endpoint; get it at /v1/jobs/{job_id}/result"
        raise Problem(422, "result-too-deep", detail, job_id=job_id) from error
    footer = json.dumps({"job_id": job_id, "shards": shards}, separators=(",", ":"))
    return f'{{"{field}":{result},{footer[1:]}'.encode()


def _result_text(content: bytes, media_type: str) -> str:
    if media_type == "application/json":
        return _checked(content.decode())
    if media_type == "application/x-ndjson":
        lines = content.decode().split("\n")
        return f"[{','.join(_checked(line) for line in lines if line.strip())}]"
    if media_type.startswith("text/"):
        return json.dumps(content.decode(errors="replace"))
    return json.dumps(base64.b64encode(content).decode())


def _checked(text: str) -> str:
    """Return the text of one JSON value, with constants quoted; ValueError if it is not valid JSON."""
    constants: list[str] = []
    # Numbers are skipped, not parsed: int() refuses more than 4,300 digits, and float() turns 1e400 into infinity.
    json.loads(text, parse_int=len, parse_float=len, parse_constant=constants.append)
    return _CONSTANT.sub(_quoted, text) if constants else text


def _quoted(token: re.Match[str]) -> str:
    return token[0] if token[0].startswith('"') else f'"{token[0]}"'
