"""Identifiers: job ids, submission ids, and the partition of a job's events."""

import hashlib
import re

from regather.core.model import JobId, SubmissionId

_SUBMISSION_ID = re.compile(r"[0-9a-f]{16}")
_JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def is_job_id(text: str) -> bool:
    """Whether the text has the form of a job id: a UUID in lower case."""
    return _JOB_ID.fullmatch(text) is not None


def is_submission_id(text: str) -> bool:
    """Whether the text has the form of a submission id: 16 hexadecimal digits in lower case."""
    return _SUBMISSION_ID.fullmatch(text) is not None


def uuid7(now_ms: int, randomness: bytes) -> JobId:
    """Return a UUID version 7 (RFC 9562, section 5.7) made of a time and at least 10 random bytes."""
    value = (now_ms & (1 << 48) - 1) << 80 | int.from_bytes(randomness[:10], "big")
    return _stamped(value, version=7)


def keyed_job_id(tenant: str, key: str) -> JobId:
    """Return a UUID version 8 (RFC 9562, section 5.8) made of SHA-256(tenant, key): the same key gives the same job."""
    tenant_bytes = tenant.encode()
    digest = hashlib.sha256(len(tenant_bytes).to_bytes(4, "big") + tenant_bytes + key.encode()).digest()
    return _stamped(int.from_bytes(digest[:16], "big"), version=8)


def submission_id(randomness: bytes) -> SubmissionId:
    """Return the id of one upload, made of at least 8 random bytes."""
    return SubmissionId(randomness[:8].hex())


def event_partition(job_id: JobId, partitions: int) -> int:
    """Return the job's partition number: the same in job-events, segments, checkpoints, results and job-status."""
    return int(job_id[-8:], 16) % partitions


def _stamped(value: int, *, version: int) -> JobId:
    value = value & ~(0xF << 76) | version << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    text = f"{value:032x}"
    return JobId(f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}")
