"""What a check has found."""

import enum

import msgspec


class Severity(enum.StrEnum):
    """How bad it is."""

    ERROR = "error"
    """It does not work, or will not under load."""
    WARNING = "warning"
    """It works until something usual happens: a failover, a long query, a lost machine."""
    ADVICE = "advice"
    """It works, and there is a better way; or something is not known."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing to look at. The texts are for people; no secret is in them."""

    check: str = ""
    """Who has found it. Filled in by checks.diagnose."""
    severity: Severity
    node: str = ""
    """The node it is about; "" for the settings, or for the nodes together."""
    what: str
    """What is, in numbers."""
    why: str
    change: str
    """The setting and its value."""


def error(what: str, why: str, change: str, node: str = "") -> Finding:
    """An error."""
    return Finding(severity=Severity.ERROR, node=node, what=what, why=why, change=change)


def warning(what: str, why: str, change: str, node: str = "") -> Finding:
    """A warning."""
    return Finding(severity=Severity.WARNING, node=node, what=what, why=why, change=change)


def advice(what: str, why: str, change: str, node: str = "") -> Finding:
    """Advice."""
    return Finding(severity=Severity.ADVICE, node=node, what=what, why=why, change=change)
