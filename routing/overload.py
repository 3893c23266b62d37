"""What stands behind a name in a snapshot of the catalog."""

import msgspec


class Overload(msgspec.Struct, frozen=True, array_like=True):
    """One function, or several that differ only in their arguments' types."""

    schema: str
    least: int
    most: int
    """How many arguments it takes; `most` may be ANY."""
    hazard: str


class Thing(msgspec.Struct, frozen=True, array_like=True):
    """A relation, operator or type of some name."""

    schema: str
    hazard: str
