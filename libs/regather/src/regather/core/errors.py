"""Every error of Regather, as one tree.

RegatherError
├── UserError                 the request or the input is wrong; a retry does not help
│   ├── BadInput              the body cannot be cut into shards
│   ├── BadRequest            an unknown kind, a wrong option, a wrong shard size
│   └── PermanentError        raised by a processor: this shard can never succeed, do not retry it
├── WireError                 a record that this version cannot decode
│   └── NewerRecord           a record of a later release: nothing is wrong with it, and an upgrade reads it
├── NoRoom                    a job's outputs exceed a limit of memory or disk space
├── UnsafeBroker              a broker's settings would break the delivery promise; nothing is written to it
└── TransportError            Kafka, or the in-memory transport, did not do what was asked
    ├── BrokerUnavailable     no broker answered in time; the outcome of the call is unknown
    │   └── ClientFailure     the client cannot do what was asked, however often it is asked; brokers may be well
    ├── RecordTooLarge        a record exceeds the topic's or the producer's limit
    ├── CommitRejected        a commit of an older generation, or of a partition that was revoked
    ├── OffsetOutOfRange      the position is not in the log: retention deleted the records there, or they never were
    ├── NotReadableYet        the record is written, but its transaction, or one before it, has not ended for readers
    ├── AccessDenied          the brokers do not authorize this request
    └── ProducerDead          the producer must be dropped; whether its records in flight were written is unknown
        └── Fenced            a newer producer with the same transactional id took over
"""


class RegatherError(Exception):
    """Base of all errors that Regather raises on purpose."""


class UserError(RegatherError):
    """The request or the input is wrong. Programs can rely on `code`; the message is for people."""

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


class NewerRecord(WireError):
    """A record of a later release. Whoever reads it stops there, so that nothing is lost: an upgrade reads it."""


class NoRoom(RegatherError):
    """A job's outputs exceed a limit of memory or disk space."""


class UnsafeBroker(RegatherError):
    """A broker's settings would break the delivery promise; nothing is written to it."""


class TransportError(RegatherError):
    """Kafka, or the in-memory transport, did not do what was asked."""


class BrokerUnavailable(TransportError):
    """No broker answered in time; the outcome of the call is unknown."""


class ClientFailure(BrokerUnavailable):
    """The client cannot do what was asked, such as decode a batch. Asking again does not help; brokers may be well."""


class RecordTooLarge(TransportError):
    """A record exceeds the topic's or the producer's limit."""


class CommitRejected(TransportError):
    """A commit of an older generation, or of a partition that was revoked."""


class OffsetOutOfRange(TransportError):
    """The position is not in the log: retention deleted the records there, or they never were."""


class NotReadableYet(TransportError):
    """The record is written, but a transaction that begins at or before it is still open for readers: read it later."""


class AccessDenied(TransportError):
    """The brokers do not authorize this request."""


class ProducerDead(TransportError):
    """The producer must be dropped; whether its records in flight were written is unknown."""


class Fenced(ProducerDead):
    """A newer producer with the same transactional id took over."""
