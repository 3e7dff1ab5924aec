"""What is known of a job that is not as it should be, on one page: to find the cause without a search through gigabytes."""

import json
from collections import defaultdict
from datetime import UTC, datetime
from pathlib import Path

from chaos.checker import ChaosResult, Evidence
from chaos.records import Line
from chaos.report import Run

_MOST = 40


def write_incident_report(folder: Path, evidence: Evidence, verdict: ChaosResult, run: Run) -> None:
    """Write `faults.txt`, `clients.txt`, `events.txt`, a page for each job that a violation names, and `executions.txt`.

    The last one is the page of the job with the shard that ran most often.
    """
    folder.mkdir(parents=True, exist_ok=True)
    faults = [f"{clock(fired.began_s)} to {clock(fired.ended_s)} {fired} {fired.error}" for fired in run.fired]
    (folder / "faults.txt").write_text("\n".join(faults) + "\n")
    told = [
        f"{clock(told.began_s)} {told.label} {told.job.name} {sorted(told.accepted)} {told.ended} {told.answers}"
        for told in evidence.told.values()
    ]
    (folder / "clients.txt").write_text("\n".join(told) + "\n")
    events = (
        f"{clock(line.at_ms / 1000)} {line.place.partition}/{line.place.offset} {line.job_id} {_event(line)}"
        for line in evidence.lines
    )
    (folder / "events.txt").write_text("\n".join(events) + "\n")
    by_job: dict[str, list[str]] = defaultdict(list)
    for violation in verdict.violations:
        by_job[violation.job_id].append(str(violation))
    for job_id in [job_id for job_id in by_job if job_id][:_MOST]:
        (folder / f"{job_id}.txt").write_text(_page(job_id, by_job[job_id], evidence, run))
    if verdict.most_executed is not None:
        most = f"shard {verdict.most_executed} ran {verdict.executions_max} times, more often than any other"
        (folder / "executions.txt").write_text(_page(verdict.most_executed[0], [most], evidence, run))


def clock(seconds: float) -> str:
    """Time of day in UTC, as the logs have it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M:%S.%f")[:-3]


def _event(line: Line) -> str:
    return f"{line.sort} {line.submission} v{line.version} {line.detail}"


def _page(job_id: str, violations: list[str], evidence: Evidence, run: Run) -> str:
    entries = [
        (line.at_ms / 1000, f"event {line.place.offset} {_event(line)}")
        for line in evidence.lines
        if line.job_id == job_id
    ]
    for final in evidence.finals:
        if final.job_id == job_id:
            text = json.dumps(final.document)[:2000]
            entries.append((final.at_ms / 1000, f"FINAL {final.place} v{final.version} {final.state} {text}"))
    for told in evidence.told.values():
        if any(job == job_id for job, _ in told.accepted):
            entries.append((told.began_s, f"client {told.label} {told.job}: {told.answers}"))
            entries += [
                (at_s, f"client was told that {version} is accepted") for version, at_s in told.accepted.items()
            ]
    first_s, last_s = min(entries, default=(0, ""))[0], max(entries, default=(0, ""))[0]
    for fired in run.fired:
        if fired.began_s <= last_s + 60 and fired.ended_s >= first_s - 10:
            entries.append((fired.began_s, f"FAULT {fired}"))
    lines = [f"{clock(at_s)} {text}" for at_s, text in sorted(entries)]
    return "\n".join([*violations, "", *lines, ""])
