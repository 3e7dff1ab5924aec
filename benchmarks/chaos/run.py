"""`make chaos FAULTS=100 SEED=s`: three brokers, seven services, clients, and a nemesis; then the checker.

The seed decides what is struck, when, and whom of those that have work then; the plan is printed. Exit code 1 on any
violation; settings, logs and what is known of each job concerned are kept then (`logs` in the report).
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.checker import ChaosResult, Evidence, check
from chaos.drain import Quiet, wait_quiet
from chaos.faults.base import Context, Fault
from chaos.incident_report import write_incident_report
from chaos.jobs import workload_jobs
from chaos.ledger import Ledger
from chaos.monitor import Monitor
from chaos.nemesis import Nemesis, all_faults
from chaos.plan import Kind, PlannedFault, make_plan
from chaos.readers import Readers
from chaos.report import Run, report_of
from chaos.workload import Workload
from regather.embedded.bounded_volume import MountRefused, private_mounts
from regather.embedded.cluster_view import ClusterView
from regather.embedded.embedded_cluster import EmbeddedCluster
from regather.embedded.embedded_kafka import free_ports
from regather.embedded.kafka_broker import BOOTSTRAP_VARIABLE, Broker, Rung
from regather.service import event_loop
from regather.testing.fault_proxy import FaultProxy
from regather.topics.layout import Size
from regather_cli.report import commit, dirty, write_report
from regather_cli.stack import Stack, StackSettings
from regather_cli.supervision import Supervision

EVERY_S = 8.0
CLIENTS = 8
SESSION_S = 6.0
REPLICATION = 3
ENVIRONMENT = {
    "REGATHER_DIAGNOSTICS": "true",
    "REGATHER_SESSION_TIMEOUT_MS": str(int(SESSION_S * 1000)),
    "REGATHER_PROGRESS_S": "0.5",
    "REGATHER_TICK_S": "1",
    "REGATHER_HEARTBEAT_TIMEOUT_S": "8",
    "REGATHER_HEARTBEAT_S": "2",
    "REGATHER_RETRY_CAP_MS": "1000",
    "REGATHER_ACK_TIMEOUT_S": "12",
}


def stack_settings(proxied_servers: str) -> StackSettings:
    """Two gateways, three workers, two aggregators that share four partitions; all reach the brokers through a proxy."""
    return StackSettings(
        gateways=2,
        workers=3,
        worker_slots=3,
        aggregators=2,
        size=Size.COMPOSE,
        replication=REPLICATION,
        gateway_port=free_ports(1)[0],
        environment=ENVIRONMENT | {BOOTSTRAP_VARIABLE: proxied_servers},
    )


class Chaos:
    """One run from the start of the brokers to the report."""

    def __init__(self, seed: int, home: Path, kinds: list[Kind] | None, faults: int, every_s: float) -> None:
        self.seed = seed
        self.home = home
        self._kinds, self._count, self._every_s = kinds, faults, every_s
        self.ledger = Ledger()
        self.run = Run(seed=seed)

    async def go(self) -> tuple[Run, Evidence, ChaosResult]:
        """Run, drain, read, check."""
        with EmbeddedCluster(self.home / "kafka") as cluster:
            print(f"brokers after {self.run.seconds:.1f} s: {cluster.bootstrap_servers}", flush=True)
            self.run.no_volumes_because = cluster.no_volumes_because
            broker = Broker(cluster.bootstrap_servers, Rung.EMBEDDED, cluster.version)
            settings = stack_settings(cluster.proxied_servers)
            async with (
                FaultProxy(cluster.proxy_routes) as proxy,
                Stack(settings, home=self.home / "services", broker=broker) as stack,
            ):
                print(f"services after {self.run.seconds:.1f} s; logs: {self.home}", flush=True)
                counts = {spec.name: spec.partitions for spec in stack.topic_specs()}
                readers = Readers(lambda: cluster.answering_servers, stack.topics, counts)
                nemesis = await self._disturbed(stack, cluster, proxy, readers)
            self.run.leftover = stack.leftover_pids(besides=[node.pid for node in cluster.nodes])
            print(f"services ended after {self.run.seconds:.1f} s; reading the topics", flush=True)
            evidence = await self._evidence(readers, nemesis)
        verdict = check(evidence)
        verdict.violations += self.run.violations()
        return self.run, evidence, verdict

    def _faults(self) -> dict[Kind, Fault]:
        return {kind: fault for kind, fault in all_faults().items() if self._kinds is None or kind in self._kinds}

    def _plan(self, kinds: list[Kind]) -> list[PlannedFault]:
        plan = make_plan(self.seed, self._count, kinds=kinds, every_s=self._every_s)
        print("\n".join(["plan:", *map(str, plan)]), flush=True)
        return plan

    async def _disturbed(self, stack: Stack, cluster: EmbeddedCluster, proxy: FaultProxy, readers: Readers) -> Nemesis:
        """Clients and nemesis at once, then the quiet phase."""
        view = ClusterView(lambda: cluster.answering_servers)
        supervision, monitor = Supervision(lambda: stack.services), Monitor(lambda: stack.services)
        gateways = [service.url for service in stack.services if service.name.startswith("gateway")]
        workload = Workload(gateways, workload_jobs(self.seed), self.ledger, self.seed)
        context = Context(stack, cluster, view, monitor, supervision, workload, self.ledger, SESSION_S, proxy)
        async with beside(supervision.run(), monitor.run(), readers.follow_results()):
            clients = asyncio.create_task(workload.run(CLIENTS), name="clients")
            faults = self._faults()
            nemesis = Nemesis(context, faults, time.monotonic())
            try:
                await nemesis.run(self._plan(list(faults)))
            finally:
                workload.stop()
            quiet = Quiet(stack.topics, stack.services, monitor, view, readers)
            healed_s = time.monotonic()
            waited = await wait_quiet(quiet, clients.done, healed_s, asyncio.sleep)
            workload.give_up()
            await clients
            await workload.sweep()
            await workload.close()
            monitor.write(self.home / "samples.csv")
            self.run.ended(nemesis, supervision, monitor, *waited)
        return nemesis

    async def _evidence(self, readers: Readers, nemesis: Nemesis) -> Evidence:
        return Evidence(
            told={told.label: told for told in self.ledger.all},
            finals=await readers.finals(),
            seen_beside=readers.seen,
            letters=await readers.letters(),
            lines=await readers.lines(),
            disturbances=nemesis.disturbances(),
            drained=not self.run.not_quiet,
        )


@contextlib.asynccontextmanager
async def beside(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run these until the block ends; an error of one of them ends the block."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


@dataclass(frozen=True, slots=True)
class Code:
    """The checked-out commit when a run began, and whether the files were then as it has them."""

    commit: str
    dirty: bool

    def tested(self) -> dict[str, Any]:
        """What a run that ends now says: services are started all the time, so a change meanwhile was tested, too."""
        return {"commit": self.commit, "dirty": self.dirty or dirty() or commit() != self.commit}


async def main(given: argparse.Namespace) -> int:
    code = Code(commit(), dirty())
    home = Path(tempfile.mkdtemp(prefix=f"regather-chaos-{given.seed}-"))
    kinds = [Kind(kind) for kind in given.kinds.split(",")] if given.kinds else None
    chaos = Chaos(given.seed, home, kinds, given.faults, given.every_s)
    run, evidence, verdict = await chaos.go()
    for violation in verdict.violations[:50]:
        print(f"VIOLATION {violation}", flush=True)
    kept = bool(verdict.violations) or given.keep
    if kept:
        write_incident_report(home / "incident", evidence, verdict, run)
    document = report_of(run, verdict, wanted=given.faults, logs=str(home) if kept else "") | code.tested()
    if not kept:
        shutil.rmtree(home, ignore_errors=True)
    name = f"chaos-{code.commit}-{given.seed}"
    print(json.dumps(write_report(name, document, run.began_s)), flush=True)
    return 0 if document["ok"] else 1


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every-s", type=float, default=EVERY_S, help="seconds from fault to fault on average")
    parser.add_argument("--kinds", default="", help="only these, separated by commas")
    parser.add_argument("--keep", action="store_true", help="keep the logs of a run without violations, too")
    return parser.parse_args()


if __name__ == "__main__":
    logging.disable(logging.ERROR)  # clients of ours whose broker was killed on purpose
    with contextlib.suppress(MountRefused):
        private_mounts()
    os.environ.setdefault("PYTHONFAULTHANDLER", "1")
    sys.exit(event_loop.run(main(parsed())))
