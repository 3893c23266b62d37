"""How a setting is declared: its default, its limits, what is allowed in words, what it is for, others' names for it.

What a person reads of it comes from here: the line a mistake earns (middleware.config.load) and the reference of all
settings (middleware.config.reference).
"""

from typing import Any, Final, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator
from pydantic_core import PydanticCustomError

DURATION_S_MAX: Final = 10_000_000.0
"""Four months: beyond any use, and within what the clocks of every event loop accept."""

Switch = Literal["on", "off"]


def setting(default: object, allowed: str, about: str, *, peers: str = "", **limits: Any) -> Any:
    """A setting. `peers` are its names elsewhere: "pgbouncer: NAME; pgpool: NAME; hikaricp: NAME", where they differ
    or belong to a table; a name that is ours too is given as well."""
    return Field(default, description=about, json_schema_extra={"allowed": allowed, "peers": peers}, **limits)


def whole(default: int | None, low: int, high: int, about: str, *, peers: str = "") -> Any:
    """A whole number; None in a rule that leaves it to the top level."""
    return setting(default, f"a whole number from {low} to {high}", about, peers=peers, ge=low, le=high)


def seconds(default: float | None, about: str, *, zero: bool = False, peers: str = "") -> Any:
    """A duration; with `zero` it may be 0."""
    if zero:
        allowed = "a number of seconds, 0 or more"
        return setting(default, allowed, about, peers=peers, ge=0, le=DURATION_S_MAX)
    return setting(default, "a number of seconds above 0", about, peers=peers, gt=0, le=DURATION_S_MAX)


def one_of(default: object, kind: object, about: str, *, peers: str = "") -> Any:
    """One of the words of a Literal."""
    *names, last = (f'"{name}"' for name in get_args(kind))
    return setting(default, f"{', '.join(names)} or {last}" if names else last, about, peers=peers)


def path(about: str, *, peers: str = "") -> Any:
    """A file, or "" for none."""
    return setting("", "the path of a file", about, peers=peers)


class Table(BaseModel):
    """A table of the file: nothing unknown in it, nothing changed after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_boolean(cls, value: object) -> object:
        # Python counts true as 1; no setting here is a boolean, so one is a mistake.
        if isinstance(value, bool):
            raise PydanticCustomError("boolean", "a boolean is not allowed")
        return value


def plain(secret: SecretStr | None) -> str | None:
    """The secret itself."""
    return None if secret is None else secret.get_secret_value()
