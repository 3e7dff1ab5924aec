"""The run through the real chain: broker, gateway, worker and aggregator as processes."""

import uuid
from pathlib import Path

from accept_kinds.case import Case
from accept_kinds.http import Gateway
from accept_kinds.run import Findings, run
from regather.embedded.kafka_broker import Broker
from regather_cli.stack import Stack, StackSettings

_TELL_EVERY = 20


async def judged(cases: list[Case], sizes: tuple[str, ...], models: Path, broker: Broker | None = None) -> Findings:
    """Start the stack (on `broker` if one runs already), judge every case at every size, end the stack."""
    environment = {"REGATHER_MODELS_DIR": str(models), "REGATHER_LOG_LEVEL": "warning"}
    prefix = f"accept-{uuid.uuid4().hex[:8]}."
    done = 0

    def tell(case: Case) -> None:
        nonlocal done
        done += 1
        if done % _TELL_EVERY == 0 or done == len(cases):
            print(f"{done} of {len(cases)} files", flush=True)

    settings = StackSettings(topic_prefix=prefix, environment=environment)
    async with Stack(settings, broker=broker) as stack, Gateway(stack.gateway_url) as gateway:
        findings = await run(cases, sizes, gateway, tell)
        findings.lost_answers = gateway.lost_answers
        return findings
