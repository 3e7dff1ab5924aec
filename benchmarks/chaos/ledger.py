"""What the clients asked for and were told: the only thing that the checker believes beside the log itself."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from chaos.jobs import Job

LABEL = "chaos-"
Version = tuple[str, int]
"""A job's id and the version of its result."""


@dataclass(slots=True, eq=False)
class Told:
    """One job of one client. Times are seconds since 1970.

    `accepted`: what a 202 or 200 named, and when. `answers`: every try, in words. `ended`: state, version and digest of
    the result as a gateway showed them at the end. `shown`: port, state and version when all was quiet.
    `kept`: a redrive has it already. `forgotten`: a gateway did not know the job after its 202.
    """

    number: int
    job: Job
    key: str | None
    began_s: float
    answers: list[str] = field(default_factory=list)
    accepted: dict[Version, float] = field(default_factory=dict)
    cancelled: bool = False
    refused: str = ""
    forgotten: list[str] = field(default_factory=list)
    ended: tuple[str, int, str | None] | None = None
    shown: list[tuple[int, str, int]] = field(default_factory=list)
    given_up: bool = False
    kept: bool = False

    @property
    def label(self) -> str:
        """By which it is known in the log."""
        return f"{LABEL}{self.number}"

    @property
    def open(self) -> bool:
        """Whether its client still waits for an end."""
        return self.ended is None and not self.given_up and not self.refused


class Ledger:
    """All jobs of a run, by number."""

    def __init__(self) -> None:
        self.all: list[Told] = []

    def begin(self, job: Job, key: str | None, began_s: float) -> Told:
        """Note that a client wants a job."""
        told = Told(len(self.all), job, key, began_s)
        self.all.append(told)
        return told

    def open(self) -> Iterator[Told]:
        """Those whose clients still wait."""
        return (told for told in self.all if told.open)

    def by_label(self, label: str) -> Told | None:
        """The job that carries this label, None for any other label."""
        number = label.removeprefix(LABEL)
        if label == number or not number.isdecimal() or int(number) >= len(self.all):
            return None
        return self.all[int(number)]
