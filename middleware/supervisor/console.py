"""The admin console: a line of text in, what it has come to out.

One for all who ask: a client of the database `pointsman` (through its worker), the control socket, the dashboard's
buttons.
"""

from typing import Final, Literal, Protocol

import msgspec

from middleware import sqlstate
from middleware.admin.table import Column, Done, Table
from middleware.errors import PointsmanError
from middleware.supervisor.status import Status


class Who(msgspec.Struct, frozen=True):
    """Who asks."""

    name: str
    admin: bool
    """May change something; else may only look."""
    via: Literal["console", "socket", "http"]


class Operated(Protocol):
    """What the console needs of the Pointsman whose it is."""

    def status(self) -> Status: ...


class Console:
    """Carries commands out."""

    def __init__(self, operated: Operated) -> None:
        self._operated: Final = operated

    async def run(self, text: str, who: Who) -> Table | Done:
        """Do as `who` has said. Raises PointsmanError: 42601 for what is no command, 42501 where it may not."""
        match text.rstrip().rstrip(";").upper().split():
            case ["SHOW", "VERSION"]:
                return Table((Column("version"),), ((f"Pointsman {self._operated.status().version}",),))
            case _:
                raise PointsmanError("invalid command", hint="Try SHOW HELP.", sqlstate=sqlstate.SYNTAX_ERROR)
