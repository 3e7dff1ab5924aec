"""The nemesis strikes those with work, chooses anew where there is nobody, and says what found nothing to do."""

import time
from types import SimpleNamespace
from typing import Any

from chaos.faults.base import Victim
from chaos.monitor import Monitor
from chaos.nemesis import Nemesis
from chaos.plan import Kind, PlannedFault
from chaos.report import Run
from regather_cli.supervision import Exit, Supervision


class Struck:
    """A fault that has a victim or none, and finds something to do or nothing."""

    executions = 2

    def __init__(self, *, has: str = "work", finds: str = "something", error: Exception | None = None) -> None:
        self._has, self._finds, self._error = has, finds, error

    async def victim(self, context: Any, planned: PlannedFault) -> Victim | None:
        return Victim("somebody", self._has) if self._has else None

    async def strike(self, context: Any, planned: PlannedFault, victim: Victim) -> str:
        assert victim.name in context.struck
        if self._error is not None:
            raise self._error
        return self._finds


def planned(number: int, kind: Kind, *otherwise: Kind) -> PlannedFault:
    return PlannedFault(number, 0.0, kind, 0.5, 0.5, otherwise)


async def struck(faults: dict[Kind, Any], *plan: PlannedFault) -> Nemesis:
    context: Any = SimpleNamespace(struck=set())
    nemesis = Nemesis(context, faults, time.monotonic(), gap_s=0.0, patience_s=0.0)
    await nemesis.run(plan)
    assert context.struck == set()
    return nemesis


def report(nemesis: Nemesis, *, drain_s: float = 1.0, not_quiet: str = "") -> Run:
    run, supervision, monitor = Run(1), Supervision(list), Monitor(list)
    supervision.exits.append(Exit("gateway-1", 1, 0.0))
    run.ended(nemesis, supervision, monitor, drain_s, not_quiet)
    return run


async def test_what_was_planned_is_struck_where_somebody_has_work() -> None:
    nemesis = await struck({Kind.POISON: Struck()}, planned(1, Kind.POISON))
    assert (nemesis.by_kind, nemesis.idle, nemesis.chosen_anew) == ({"poison": 1}, [], 0)
    assert report(nemesis).violations() == []
    (disturbance,) = nemesis.disturbances()
    assert disturbance.executions == 2
    assert disturbance.ended_ms >= disturbance.began_ms > 0


async def test_a_kind_without_a_victim_is_struck_later_and_what_comes_next_is_struck_first() -> None:
    class Late(Struck):
        asked = 0

        async def victim(self, context: Any, planned: PlannedFault) -> Victim | None:
            self.asked += 1
            return Victim("somebody else", "work") if self.asked > 1 else None

    faults = {Kind.DISK_FULL: Late(), Kind.POISON: Struck(), Kind.CANCEL: Struck()}
    plan = [planned(number, kind) for number, kind in enumerate((Kind.DISK_FULL, Kind.POISON, Kind.CANCEL), 1)]
    nemesis = await struck(faults, *plan)
    assert [fired.kind for fired in nemesis.fired] == [Kind.POISON, Kind.DISK_FULL, Kind.CANCEL]
    assert nemesis.chosen_anew == 0


async def test_a_kind_that_is_not_in_the_plan_is_struck_where_nobody_has_work() -> None:
    faults = {Kind.POISON: Struck(has=""), Kind.CANCEL: Struck(has=""), Kind.WORKER_KILL: Struck()}
    nemesis = await struck(faults, planned(1, Kind.POISON, Kind.CANCEL, Kind.WORKER_KILL))
    assert (nemesis.by_kind, nemesis.chosen_anew) == ({"worker-kill": 1}, 1)


async def test_a_kind_of_the_plan_that_came_less_than_twice_is_a_violation() -> None:
    faults = {Kind.POISON: Struck(), Kind.CANCEL: Struck(has="")}
    plan = [planned(number, Kind.POISON) for number in range(3)]
    assert (await struck(faults, *plan)).too_rare == []
    nemesis = await struck(faults, *plan, planned(4, Kind.CANCEL, Kind.POISON))
    assert (nemesis.too_rare, nemesis.by_kind) == (["cancel"], {"poison": 4})
    assert [violation.sort for violation in report(nemesis).violations()] == ["rare"]


async def test_a_fault_that_found_nothing_to_do_is_idle_and_a_violation() -> None:
    nemesis = await struck({Kind.POISON: Struck(finds="")}, planned(1, Kind.POISON))
    assert len(nemesis.idle) == 1
    assert [violation.sort for violation in report(nemesis).violations()] == ["idle"]


async def test_a_fault_that_could_not_be_healed_is_a_violation_with_its_error() -> None:
    nemesis = await struck({Kind.POISON: Struck(error=AssertionError("it never came back"))}, planned(1, Kind.POISON))
    (violation,) = report(nemesis).violations()
    assert (violation.sort, "it never came back" in violation.text) == ("fault", True)


async def test_what_has_not_drained_in_a_minute_is_a_violation() -> None:
    nemesis = await struck({Kind.POISON: Struck()}, planned(1, Kind.POISON))
    assert [violation.text for violation in report(nemesis, drain_s=61.0).violations()] == [
        "after 61.0 s: all quiet, but too late"
    ]
    assert [violation.text for violation in report(nemesis, not_quiet="lag").violations()] == ["after 1.0 s: lag"]


async def test_processes_that_outlive_their_services_are_a_violation_and_exits_are_told() -> None:
    run = report(await struck({Kind.POISON: Struck()}, planned(1, Kind.POISON)))
    run.leftover = [4711]
    assert [violation.sort for violation in run.violations()] == ["leftover"]
    assert run.exits == {"gateway-1 1": 1}
