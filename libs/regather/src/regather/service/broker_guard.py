"""Checks, once before the first transaction, that the brokers' settings are safe for transactions (ADR 0014)."""

import asyncio

from regather.core.errors import AccessDenied, TransportError, UnsafeBroker
from regather.service.logs import get_logger
from regather.topics.rules import VERIFICATION, BrokerSettings, unverified
from regather.transport.base import Transport

log = get_logger()
_RETRY_S = 1.0


async def refuse_unsafe_broker(transport: Transport, stop: asyncio.Event) -> None:
    """Return once the brokers have answered, or `stop` is set; raise UnsafeBroker if one must not be used.

    If the brokers deny access to the setting, or none has it, log that and assume Kafka's default (on).
    """
    while not stop.is_set():
        try:
            return _judge(await transport.broker_settings([VERIFICATION]))
        except AccessDenied as error:
            log.warning("broker-settings-unknown", setting=VERIFICATION, error=str(error))
            return None
        except TransportError as error:
            log.warning("no-broker", error=str(error))
            await asyncio.sleep(_RETRY_S)
    return None


def _judge(settings: BrokerSettings) -> None:
    wrong = unverified(settings)
    if wrong:
        raise UnsafeBroker(
            f"broker {', '.join(map(str, wrong))} has {VERIFICATION}=false: a late request of an aggregator that died "
            "could leave a transaction open for ever. Set it to true (`regather topics check` prints the command) and "
            "start the aggregator again"
        )
    if not any(VERIFICATION in known for known in settings.values()):
        log.warning("broker-settings-unknown", setting=VERIFICATION, error="no broker returned the setting")
