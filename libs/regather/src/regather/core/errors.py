"""Every error of Regather, as one tree.

RegatherError
├── UserError                 the client or the plug-in's input is wrong; repeating does not help
│   ├── BadInput              the body cannot be cut into shards
│   ├── BadRequest            an unknown kind, a wrong option, a wrong shard size
│   └── PermanentError        raised by a processor: this shard can never succeed, do not retry it
├── WireError                 a record that this version cannot decode
├── NoRoom                 there is no place left for what a job brings
├── UnsafeBroker              a broker's settings would break the promise; nothing is written to it
└── TransportError            Kafka, or its stand-in, did not do what was asked
    ├── BrokerUnavailable     no broker answered in time; the outcome of the call is unknown
    ├── RecordTooLarge        a record above the topic's or the producer's limit
    ├── CommitRejected        offsets of an older generation, or of a partition that was taken away
    ├── OffsetOutOfRange      the position is not in the log any more: records were lost to retention
    ├── AccessDenied          the brokers do not let us ask or do this
    └── ProducerDead          this producer must be thrown away; what it had in flight is unknown
        └── Fenced            a newer producer with the same transactional id took over
"""


class RegatherError(Exception):
    """Base of all errors that Regather raises on purpose."""


class UserError(RegatherError):
    """The caller's fault. `code` is stable for programs, the message is for people."""

    code = "bad-request"

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class BadInput(UserError):
    """The body cannot be cut into shards."""

    code = "bad-input"


class BadRequest(UserError):
    """A parameter of the request is wrong."""


class PermanentError(UserError):
    """Raised by a processor: this shard can never succeed, so it is not retried."""

    code = "permanent"


class WireError(RegatherError):
    """A record that this version cannot decode."""


class NoRoom(RegatherError):
    """There is no place left for what a job brings."""


class UnsafeBroker(RegatherError):
    """A broker's settings would break the promise; nothing is written to it."""


class TransportError(RegatherError):
    """Kafka, or its stand-in, did not do what was asked."""


class BrokerUnavailable(TransportError):
    """No broker answered in time; the outcome of the call is unknown."""


class RecordTooLarge(TransportError):
    """A record above the topic's or the producer's limit."""


class CommitRejected(TransportError):
    """Offsets of an older generation, or of a partition that was taken away."""


class OffsetOutOfRange(TransportError):
    """The position is not in the log any more: records were lost to retention."""


class AccessDenied(TransportError):
    """The brokers do not let us ask or do this."""


class ProducerDead(TransportError):
    """This producer must be thrown away; what it had in flight is unknown."""


class Fenced(ProducerDead):
    """A newer producer with the same transactional id took over."""
