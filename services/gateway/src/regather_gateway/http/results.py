"""The result of a job: `GET /v1/jobs/{job_id}/result`."""

import base64

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse

from regather_gateway.gateway import Parts
from regather_gateway.http.job_answers import awaited_job, matches

router = APIRouter()


@router.get("/v1/jobs/{job_id}/result")
async def get_result(request: Request, gateway: Parts, job_id: str) -> Response:
    """Return the result's bytes; `Prefer: wait=N` waits for the end of the job."""
    status, headers = await awaited_job(request, gateway, job_id)
    result = await gateway.results.open(status)
    tag = f'"{result.digest.hex()[:32]}"'
    headers |= {
        "ETag": tag,
        "Cache-Control": "no-cache",
        "Repr-Digest": f"sha-256=:{base64.b64encode(result.digest).decode()}:",
        "X-Content-Type-Options": "nosniff",
    }
    if matches(request, tag):
        return Response(status_code=304, headers=headers)
    headers["Content-Type"] = result.media_type
    if result.content is not None:
        return Response(result.content, headers=headers)
    return StreamingResponse(result.parts, headers={**headers, "Content-Length": str(result.size_bytes)})
