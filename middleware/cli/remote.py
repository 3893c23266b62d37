"""Asking a Pointsman that runs, by its control socket: requests out, events and the last word in."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn

import msgspec
import typer

from middleware.admin.table import Value
from middleware.cli.common import EXIT_CONFIG, EXIT_FAILED, settings_or_exit
from middleware.supervisor.commands import Request
from middleware.supervisor.journal import Event

ANSWER_BYTES_MAX: Final = 1 << 20
"""Of one line."""


class Failure(msgspec.Struct, frozen=True):
    """Why it was not done."""

    message: str
    detail: str = ""
    hint: str = ""
    sqlstate: str = ""


class Answer(msgspec.Struct, frozen=True):
    """One line: one of these."""

    event: Event | None = None
    notice: str | None = None
    rows: list[list[Value]] | None = None
    done: msgspec.Raw = msgspec.Raw()
    error: Failure | None = None

    @property
    def last(self) -> bool:
        """Nothing follows."""
        return self.event is None and self.notice is None and self.rows is None


def ask(config: Path, request: Request) -> Iterator[Answer]:
    """Events as they come, and what it has come to last. Whatever fails is said on standard error, and exits."""
    path = settings_or_exit(config).control_socket_path()
    if path is None:
        typer.echo(f"{config}: control_socket: there is none by these settings: name a path", err=True)
        raise typer.Exit(EXIT_CONFIG)
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            connection.connect(os.fspath(path))
            connection.sendall(msgspec.json.encode(request) + b"\n")
            with connection.makefile("rb") as lines:
                while line := lines.readline(ANSWER_BYTES_MAX):
                    answer = msgspec.json.decode(line, type=Answer)
                    if answer.error is not None:
                        _fail(answer.error)
                    yield answer
                    if answer.last:
                        return
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            _fail(Failure(f"could not reach a Pointsman at {path}: {why}"))
        except msgspec.MsgspecError:
            _fail(Failure(f"what answers at {path} is not a Pointsman of this version"))
    _fail(Failure("the connection was closed: Pointsman has ended, or ends"))


def last_word(config: Path, request: Request) -> msgspec.Raw:
    """What it has come to, of a request without events."""
    return [answer.done for answer in ask(config, request)][-1]


def _fail(failure: Failure) -> NoReturn:
    typer.echo(f"pointsman: {failure.message}", err=True)
    if failure.detail:
        typer.echo(f"DETAIL:  {failure.detail}", err=True)
    if failure.hint:
        typer.echo(f"HINT:  {failure.hint}", err=True)
    raise typer.Exit(EXIT_FAILED)
