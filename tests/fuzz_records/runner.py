"""Many runs, summed up in one document."""

from dataclasses import asdict
from typing import Any

from simulation import trace

from fuzz_records.run import Run

RECORDS_OF_A_RUN = 2_000


def play(seed: int) -> tuple[int, dict[str, Any]]:
    """Run one seed in this process."""

    trace.silence()
    return seed, asdict(Run(seed, RECORDS_OF_A_RUN).go())


def summed(found: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Add up the runs, and show the first seeds that failed with what failed."""
    failing = {seed: shown for seed, one in found.items() if (shown := one["exits"] + one["hangs"] + one["hurt"])}
    return {
        "records": _sum(found, "records"),
        "refused": _sum(found, "refused"),
        "jobs": _sum(found, "jobs"),
        "exits": sum(len(one["exits"]) for one in found.values()),
        "hangs": sum(len(one["hangs"]) for one in found.values()),
        "jobs_hurt": sum(len(one["hurt"]) for one in found.values()),
        "failing": {str(seed): [line[:500] for line in shown[:3]] for seed, shown in list(failing.items())[:20]},
        "ok": not failing and bool(found),
    }


def _sum(found: dict[int, dict[str, Any]], name: str) -> int:
    return sum(one[name] for one in found.values())
