"""The errors a client may see, each with the SQLSTATE that drivers act on."""

from collections.abc import Iterable

from middleware import sqlstate


class PointsmanError(Exception):
    """An error to be sent as an ErrorResponse, in PostgreSQL's style: message in lower case, no full stop."""

    severity = "ERROR"
    sqlstate = sqlstate.INTERNAL_ERROR

    def __init__(self, message: str, *, detail: str = "", hint: str = "", sqlstate: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.detail = detail
        self.hint = hint
        self.logged = message
        """What the log has of it: the same, without what a client may have put into it."""
        if sqlstate:
            self.sqlstate = sqlstate


class ProtocolViolation(PointsmanError):
    """The peer broke the protocol; its connection is closed."""

    severity = "FATAL"
    sqlstate = sqlstate.PROTOCOL_VIOLATION


class StatementTooLarge(PointsmanError):
    """A named prepared statement too long to be kept for the servers that will need it."""

    severity = "FATAL"
    sqlstate = sqlstate.PROGRAM_LIMIT_EXCEEDED

    def __init__(self, size_bytes: int, size_max: int) -> None:
        super().__init__(
            "prepared statement is too long",
            detail=f"It has {size_bytes} bytes; statement_size_max is {size_max}.",
            hint="Use the unnamed statement, or raise statement_size_max.",
        )


class ConnectionLost(PointsmanError):
    """A server connection broke, or could not be made."""

    sqlstate = sqlstate.CONNECTION_FAILURE


class OutcomeUnknown(PointsmanError):
    """A server connection broke before the answer to what may have been committed came."""

    sqlstate = sqlstate.TRANSACTION_RESOLUTION_UNKNOWN

    def __init__(self, lost: PointsmanError) -> None:
        super().__init__(
            lost.message,
            detail=f"{lost.detail} Whether the transaction was committed is not known.".lstrip(),
            hint="See whether its changes are there before it is tried again.",
        )


class TooManyConnections(PointsmanError):
    """A limit on connections stands in the way."""

    sqlstate = sqlstate.TOO_MANY_CONNECTIONS


class NoNode(PointsmanError):
    """No node can take this now."""

    sqlstate = sqlstate.CANNOT_CONNECT_NOW


class NotSupported(PointsmanError):
    """A feature of PostgreSQL that this pool mode cannot offer."""

    severity = "FATAL"
    sqlstate = sqlstate.FEATURE_NOT_SUPPORTED


class LoginRefused(PointsmanError):
    """A client may not come in, or a node did not let us in."""

    severity = "FATAL"
    sqlstate = sqlstate.INVALID_AUTHORIZATION_SPECIFICATION


class InvalidSetting(PointsmanError):
    """A setting of ours was given a value it cannot have."""

    sqlstate = sqlstate.INVALID_PARAMETER_VALUE

    def __init__(self, name: str, value: str, allowed: Iterable[str]) -> None:
        super().__init__(
            f'invalid value for parameter "pointsman.{name}": "{value}"',
            hint=f"Available values: {', '.join(allowed)}.",
        )
        self.logged = f'invalid value for parameter "pointsman.{name}"'


class UnknownSetting(PointsmanError):
    """There is no such setting of ours."""

    sqlstate = sqlstate.UNDEFINED_OBJECT

    def __init__(self, name: str) -> None:
        super().__init__(f'unrecognized configuration parameter "pointsman.{name}"')


class ShuttingDown(PointsmanError):
    """Pointsman is stopping."""

    severity = "FATAL"
    sqlstate = sqlstate.ADMIN_SHUTDOWN

    def __init__(self) -> None:
        super().__init__("terminating connection due to administrator command")


class TimedOut(PointsmanError):
    """A timeout ends a client's connection."""

    severity = "FATAL"


class Canceled(PointsmanError):
    """The client asked, by a CancelRequest, to give up what it waits for."""

    sqlstate = sqlstate.QUERY_CANCELED

    def __init__(self) -> None:
        super().__init__("canceling statement due to user request")
