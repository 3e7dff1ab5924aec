"""One job as the services would have written it, written by hand into topics of its own, so that a test can break it."""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

from regather.core.ids import event_partition, uuid7
from regather.core.model import (
    AttemptError,
    DeadLetterAddress,
    Event,
    Failure,
    Identity,
    JobState,
    OnError,
    Opened,
    Outcome,
    Outcomes,
    Reason,
    Sealed,
    Shard,
    SubmissionId,
)
from regather.core.status import JobStatus, ResultAddress, ShardError
from regather.topics.layout import RETRY_RECORD_BYTES, Size, Topics, topic_specs
from regather.transport.base import Producer, RecordAddress, Transport
from regather.wire.documents import encode_final
from regather.wire.events import encode_event
from regather.wire.identity import HEADER, pack_identity
from regather.wire.shards import dead_letter_headers

KIND = "frames.motion"
OPTIONS = b'{"height":2,"width":2}'
"""With these the result is the outputs joined."""
"""A kind whose result is its outputs in order."""

OUTPUTS = [b"first ", b"second ", b"third"]
Headers = Sequence[tuple[str, bytes]]


@dataclass
class ForgedJob:
    """Shards 0 to 2 are done, shard 3 failed for good; the result is partial."""

    transport: Transport
    topics: Topics
    number: int = 1
    deadline_ms: int = 3_600_000
    partitions: int = 1
    in_segments: bool = False
    version: int = 1
    producer: Producer | None = None

    @property
    def owner(self) -> Identity:
        return Identity(uuid7(self.number, self.number.to_bytes(10, "big")), SubmissionId("ab" * 8), self.version)

    async def create(self, size: Size = Size.EMBEDDED) -> None:
        await self.transport.create_topics(topic_specs(self.topics, size))

    async def send(self, topic: str, headers: Headers, value: bytes, partition: int | None = None) -> RecordAddress:
        if self.producer is None:
            self.producer = self.transport.producer(max_record_bytes=RETRY_RECORD_BYTES)
            await self.producer.start()
        if partition is None:
            partition = event_partition(self.owner.job_id, self.partitions)
        key = self.owner.job_id.encode()
        return await (await self.producer.send(topic, value=value, key=key, headers=headers, partition=partition))

    async def close(self) -> None:
        if self.producer is not None:
            await self.producer.stop()

    async def tell(self, *events: Event) -> None:
        for event in events:
            await self.send(self.topics.job_events, *encode_event(event))

    async def open(self) -> None:
        await self.tell(Opened(self.owner, KIND, OPTIONS, "", self.deadline_ms, OnError.SKIP))

    async def bury(self, seq: int = 3) -> DeadLetterAddress:
        error = AttemptError(0, Reason.RAISED, "boom", "w", 0, 1)
        headers = dead_letter_headers(
            Shard(self.owner, seq, KIND, OPTIONS, b"payload"), Failure(Reason.RAISED, "boom", (error,)),
            topic="shards.small", partition=0, offset=0, worker="w",
        )  # fmt: skip
        address = await self.send(self.topics.dead_letters, headers, b"payload", partition=0)
        return DeadLetterAddress(address.partition, address.offset)

    async def settle(self, letter: DeadLetterAddress, outputs: Sequence[bytes] = OUTPUTS) -> None:
        done = [Outcome(seq, 1, 4, 0, 1, output=output) for seq, output in enumerate(outputs)]
        failed = Outcome(3, 4, 4, 0, 1, failure=Failure(Reason.RAISED, "boom", (), letter))
        await self.tell(Outcomes(self.owner, "w", [*done, failed]), Sealed(self.owner, 4, 16, "sha256:x"))

    def status(self, letter: DeadLetterAddress, result: ResultAddress) -> JobStatus:
        error = ShardError(3, Reason.RAISED, "boom", 4, (letter.partition, letter.offset))
        return JobStatus(
            self.owner, JobState.PARTIAL, KIND, on_error=OnError.SKIP, total=4, done=3, failed=1, frontier=4,
            size_bytes=16, digest="sha256:x", gaps=((3, 3),), errors=(error,), result=result, events_offset=0,
        )  # fmt: skip

    async def segments(self, pieces: Sequence[bytes]) -> list[RecordAddress]:
        headers = [[(HEADER, pack_identity(self.owner)), ("segment", b"%d" % n)] for n in range(len(pieces))]
        return [await self.send(self.topics.segments, head, piece) for head, piece in zip(headers, pieces, strict=True)]

    async def end(
        self,
        letter: DeadLetterAddress,
        value: bytes = b"".join(OUTPUTS),
        change: Callable[[JobStatus], JobStatus] = lambda s: s,
    ) -> None:
        """Write the final; a result in segments goes before it, in two pieces."""
        result = ResultAddress(0, None, len(value), "text/plain")
        if self.in_segments:
            pieces = [value[:8], value[8:]]
            addresses = await self.segments(pieces)
            listed = tuple((at.offset, len(piece)) for at, piece in zip(addresses, pieces, strict=True))
            result = replace(result, segments=listed, digest=f"sha256:{hashlib.sha256(value).hexdigest()}")
            value = b""
        headers, _ = encode_final(change(self.status(letter, result)), b"", "text/plain")
        await self.send(self.topics.results, headers, value)

    async def write(self) -> DeadLetterAddress:
        """Everything, as it is right."""
        await self.open()
        letter = await self.bury()
        await self.settle(letter)
        await self.end(letter)
        return letter


async def finals_twice(job: ForgedJob) -> None:
    letter = await job.write()
    await job.end(letter)


async def no_final(job: ForgedJob) -> None:
    await job.open()
    await job.settle(await job.bury())


async def nobody_opened(job: ForgedJob) -> None:
    letter = await job.bury()
    await job.settle(letter)
    await job.end(letter)


async def a_wrong_byte(job: ForgedJob) -> None:
    await job.open()
    letter = await job.bury()
    await job.settle(letter)
    await job.end(letter, b"first sEcond third")


async def a_count_too_high(job: ForgedJob) -> None:
    await job.open()
    letter = await job.bury()
    await job.settle(letter, OUTPUTS[:2])
    await job.end(letter)


async def another_uploads_bytes(job: ForgedJob) -> None:
    await job.open()
    stranger = job.owner._replace(submission=SubmissionId("ff" * 8))
    foreign = [Outcome(seq, 1, 4, 0, 1, output=output) for seq, output in enumerate([b"FIRST "])]
    await job.tell(Outcomes(stranger, "w", foreign))
    letter = await job.bury()
    await job.settle(letter)
    await job.end(letter, b"FIRST second third")


async def a_letter_too_few(job: ForgedJob) -> None:
    await job.open()
    letter = DeadLetterAddress(0, 7_000_000)
    await job.settle(letter)
    await job.end(letter)


async def another_shards_letter(job: ForgedJob) -> None:
    await job.open()
    letter = await job.bury(seq=2)
    await job.settle(letter)
    await job.end(letter)


async def a_hole_in_the_segments(job: ForgedJob) -> None:
    job.in_segments = True
    await job.open()
    letter = await job.bury()
    await job.settle(letter)

    def hole(status: JobStatus) -> JobStatus:
        assert status.result is not None
        (first, size_bytes), second = status.result.segments
        return replace(status, result=replace(status.result, segments=((first + 7_000_000, size_bytes), second)))

    await job.end(letter, change=hole)


async def segments_in_another_order(job: ForgedJob) -> None:
    job.in_segments = True
    await job.open()
    letter = await job.bury()
    await job.settle(letter)

    def swap(status: JobStatus) -> JobStatus:
        assert status.result is not None
        return replace(status, result=replace(status.result, segments=status.result.segments[::-1]))

    await job.end(letter, change=swap)


async def a_fifth_execution(job: ForgedJob) -> None:
    await job.open()
    letter = await job.bury()
    await job.tell(Outcomes(job.owner, "w", [Outcome(0, 5, 4, 0, 1, output=OUTPUTS[0])]))
    await job.settle(letter)
    await job.end(letter)


BREAKAGES: dict[str, tuple[Callable[[ForgedJob], Awaitable[None]], set[str]]] = {
    "finals twice": (finals_twice, {"duplicate_finals"}),
    "no final": (no_final, {"unfinished"}),
    "nobody opened": (nobody_opened, {"ghosts"}),
    "a wrong byte": (a_wrong_byte, {"wrong"}),
    "a count too high": (a_count_too_high, {"wrong"}),
    "another upload's bytes": (another_uploads_bytes, {"foreign"}),
    "a letter too few": (a_letter_too_few, {"dead_letters_missing"}),
    "another shard's letter": (another_shards_letter, {"dead_letters_missing"}),
    "a hole in the segments": (a_hole_in_the_segments, {"segments_wrong"}),
    "segments in another order": (segments_in_another_order, {"segments_wrong"}),
    "a fifth execution": (a_fifth_execution, {"too_many_executions"}),
}
"""How a test breaks a job, and what the audit has to call that."""
