"""Identifiers: job ids, submission ids, and the partition that a job's events live in."""

import hashlib
import re

from regather.core.model import JobId, SubmissionId

_JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_job_id(text: str) -> bool:
    """Whether a text looks like a job's id, in small letters."""
    return _JOB_ID.fullmatch(text) is not None


def uuid7(now_ms: int, randomness: bytes) -> JobId:
    """UUID version 7 (RFC 9562, section 5.7) of a time and at least 10 random bytes."""
    value = (now_ms & (1 << 48) - 1) << 80 | int.from_bytes(randomness[:10], "big")
    return _stamped(value, version=7)


def keyed_job_id(tenant: str, key: str) -> JobId:
    """UUID version 8 (RFC 9562, section 5.8) of SHA-256(tenant, key): one idempotency key names one job."""
    tenant_bytes = tenant.encode()
    digest = hashlib.sha256(len(tenant_bytes).to_bytes(4, "big") + tenant_bytes + key.encode()).digest()
    return _stamped(int.from_bytes(digest[:16], "big"), version=8)


def submission_id(randomness: bytes) -> SubmissionId:
    """One upload's id from at least 8 random bytes."""
    return SubmissionId(randomness[:8].hex())


def event_partition(job_id: JobId, partitions: int) -> int:
    """The partition of job-events, segments, checkpoints, results and job-status that a job lives in."""
    return int(job_id[-8:], 16) % partitions


def _stamped(value: int, *, version: int) -> JobId:
    value = value & ~(0xF << 76) | version << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return JobId(f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}")
