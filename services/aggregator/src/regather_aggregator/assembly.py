"""Turns a job's outputs into its result: joins them here, or lets the processor merge them in a killable child."""

from collections.abc import Mapping, Sequence
from typing import Any

from regather.children.work import Call, Executor, Work, WorkItem, WorkLimits
from regather.core.execution import Done, Failed
from regather.core.job_events import Assembled, JobBroken
from regather.core.model import JobState, Reason
from regather.core.reassembly import JobFold
from regather.processors.base import Processor
from regather.processors.registry import options_from_json
from regather.service.logs import get_logger

log = get_logger()
Processors = Mapping[str, Processor[Any]]
_MAX_LOST_RUNS = 3


class Assembly:
    """Makes results. A processor's `merge` never runs in this process."""

    def __init__(
        self, executor: Executor, processors: Processors, *, merge_timeout_s: float, max_result_bytes: int
    ) -> None:
        self._executor = executor
        self._processors = processors
        self._limits = WorkLimits(wall_s=merge_timeout_s, output_bytes=max_result_bytes)

    async def assemble(self, job: JobFold) -> Assembled | JobBroken:
        """Return the result of a job whose shards are all settled, or the reason why it has none."""
        kind = job.opened.kind
        processor = self._processors.get(kind)
        if processor is None:
            known = ", ".join(sorted(self._processors))
            return JobBroken(Reason.MERGE_FAILED, f"kind {kind!r} is not installed on the aggregator; it has {known}")
        options = options_from_json(processor, job.opened.options)
        media_type = processor.media_type(options)
        outputs = job.outputs()
        joined = processor.gaps or None not in outputs
        if joined and not processor.merges_outputs(options):
            return self._bounded(b"".join(output for output in outputs if output is not None), media_type)
        return await self._merge(job, outputs, media_type)

    async def _merge(self, job: JobFold, outputs: Sequence[bytes | None], media_type: str) -> Assembled | JobBroken:
        items = [WorkItem(seq, output or b"", missing=output is None) for seq, output in enumerate(outputs)]
        work = Work(Call.MERGE, job.opened.kind, job.opened.options, items, self._limits)
        for _ in range(_MAX_LOST_RUNS):
            if job.state is not JobState.ASSEMBLING:  # the job has ended meanwhile and needs no result
                break
            (result,) = await self._executor.run(work)
            if isinstance(result, Done):
                return self._bounded(result.output, media_type)
            if isinstance(result, Failed):
                if result.reason is Reason.RETURNED_TOO_MUCH:
                    return JobBroken(Reason.RESULT_TOO_LARGE, self._too_large(result.error))
                return self._refused(job, result)
        return JobBroken(Reason.MERGE_FAILED, f"the child process of the merge was lost {_MAX_LOST_RUNS} times")

    def _refused(self, job: JobFold, failed: Failed) -> JobBroken:
        """Return why a merge failed: `permanent` if the data is at fault, `merge-failed` for everything else."""
        job_id = job.opened.owner.job_id
        log.warning("merge-failed", job=job_id, reason=failed.reason, error=failed.error, trace=failed.trace)
        if failed.reason is Reason.PERMANENT:
            return JobBroken(Reason.PERMANENT, f"the outputs cannot be merged: {failed.error}")
        return JobBroken(Reason.MERGE_FAILED, f"merge {failed.reason}: {failed.error}")

    def _bounded(self, result: bytes, media_type: str) -> Assembled | JobBroken:
        if len(result) > self._limits.output_bytes:
            return JobBroken(Reason.RESULT_TOO_LARGE, self._too_large(f"it has {len(result)} bytes"))
        return Assembled(result, media_type)

    def _too_large(self, detail: str) -> str:
        limit = self._limits.output_bytes
        return f"the result is larger than {limit} bytes ({detail}); make the kind return less, or submit smaller jobs"
