"""The gateway's composition root: builds the application from settings, a transport and the installed kinds."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI

from regather import __version__
from regather.children.file_cut import FileCutter
from regather.children.work import Executor, WorkLimits
from regather.processors.registry import Registry
from regather.service.environment import Environment
from regather.service.health import Probes, probes_router
from regather.service.lifecycle import WatchedTasks
from regather.transport.base import Transport
from regather.transport.log_reader import LogReader
from regather_gateway.admission import Admission, SideRoom
from regather_gateway.gateway import Gateway
from regather_gateway.http import jobs, kinds, problem_responses, results, shards, submit_job, sync_routes, workers
from regather_gateway.http.request_body import Lingering
from regather_gateway.metrics import samples
from regather_gateway.settings import GatewaySettings
from regather_gateway.submission.cancel import Canceller
from regather_gateway.submission.cutting import Cutting
from regather_gateway.submission.opening import JobKeys
from regather_gateway.submission.producing import ProducerKeeper
from regather_gateway.submission.redrive import Redriver
from regather_gateway.submission.redrive_events import JobEvents
from regather_gateway.submission.redrive_payloads import Payloads
from regather_gateway.submission.spool_dir import SpoolDir
from regather_gateway.submission.submit import Submitter
from regather_gateway.submission.upload import UploadFactory
from regather_gateway.views.results import Results
from regather_gateway.views.status_view import JobTable, StatusView
from regather_gateway.views.worker_view import WorkersView

_RESULT_FETCH_BYTES = 2 * 1024 * 1024
_EVENT_FETCH_BYTES = 16 * 1024 * 1024


def create_app(
    settings: GatewaySettings,
    transport: Transport,
    registry: Registry,
    executor: Executor,
    failed: asyncio.Event | None = None,
) -> FastAPI:
    """Wire a gateway. It sets `failed` when one of its side tasks ends with an error; the process must then stop.

    `executor` cuts the files that cannot be cut while they arrive; the caller has started it.
    """
    topics = settings.topics
    environment = Environment()
    producers = ProducerKeeper(transport, topics, environment)
    table = JobTable(max_ended=settings.max_ended_jobs, max_inline_bytes=settings.max_inline_bytes)
    view = StatusView(transport, topics.job_status, table)
    workers = WorkersView(transport, topics.workers)
    spool = SpoolDir(settings.spool_dir, max_bytes=settings.max_spool_bytes)
    limits = WorkLimits(wall_s=settings.cut_timeout_s, memory_bytes=settings.cut_memory_bytes or None)
    cutting = Cutting(spool, FileCutter(executor, limits))
    uploads = UploadFactory(settings, producers, view)
    submitter = Submitter(uploads, JobKeys(settings, view, environment), cutting)
    finals = LogReader(transport, fetch_max_bytes=_RESULT_FETCH_BYTES)
    events = LogReader(transport, fetch_max_bytes=_EVENT_FETCH_BYTES)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        spool.open()
        async with WatchedTasks() as tasks:
            tasks.start("producer", producers.run())
            tasks.start("status-view", view.run())
            tasks.start("workers-view", workers.run())
            if failed is not None:
                tasks.start("watch", _pass_on(tasks.failed, failed))
            yield
            await uploads.stop()
            await finals.stop()
            await events.stop()
        spool.close()

    app = FastAPI(title="Regather gateway", version=__version__, lifespan=lifespan)
    app.state.gateway = gateway = Gateway(
        settings=settings,
        registry=registry,
        producers=producers,
        view=view,
        workers=workers,
        submitter=submitter,
        canceller=Canceller(producers, uploads),
        redriver=Redriver(producers, uploads, view, JobEvents(transport, topics.job_events), Payloads(transport)),
        results=Results(finals, table, topics, readable_within_s=settings.ack_timeout_s),
        events=events,
        admission=Admission(settings.max_concurrent_jobs),
        side_room=SideRoom(settings.all_sides_bytes),
    )
    _add_routes(app, gateway)
    return app


def _add_routes(app: FastAPI, gateway: Gateway) -> None:
    app.add_middleware(Lingering)
    problem_responses.install(app)
    app.include_router(probes_router(Probes("gateway", lambda: gateway.not_ready_because, lambda: samples(gateway))))
    for routes in (submit_job, jobs, results, shards, kinds, workers, sync_routes):
        app.include_router(routes.router)


async def _pass_on(source: asyncio.Event, target: asyncio.Event) -> None:
    await source.wait()
    target.set()
