"""The operator's commands around a failover: pgpool-II's placeholders, a bound on their time, and what they said.

A command is split into words as a shell does it, each placeholder is then replaced within its word, and no shell is
run: what a node is called cannot become a command. (`sh -c '...'` runs one where it is wanted.)
"""

import shlex
import subprocess
from collections.abc import Mapping
from typing import Final

import anyio
import msgspec

OUTPUT_MAX: Final = 2000
"""Characters of its output that are told."""


class Place(msgspec.Struct, frozen=True):
    """A node as a command is told of it."""

    name: str
    number: int
    """Its place in the settings, from 0."""
    host: str
    port: int
    data_directory: str = ""


class CommandFailed(Exception):
    """It could not be run, ended with another status than 0, or did not end in time. The text says which."""


def placeholders(node: Place, new: Place | None, old: Place) -> dict[str, str]:
    """What stands for what: the node that it is about, the new primary, and the old one."""
    main = new or Place("", -1, "", 0)
    return {
        "%": "%",
        "d": str(node.number),
        "n": node.name,
        "h": node.host,
        "p": str(node.port),
        "D": node.data_directory,
        "m": str(main.number),
        "o": main.name,
        "H": main.host,
        "r": str(main.port),
        "R": main.data_directory,
        "M": str(old.number),
        "P": str(old.number),
        "N": old.host,
        "S": str(old.port),
    }


def words(command: str, values: Mapping[str, str]) -> list[str]:
    """The command's words. Raises ValueError for quotes that do not end, and for placeholders there are none of."""
    return [_replaced(word, values) for word in shlex.split(command)]


def _replaced(word: str, values: Mapping[str, str]) -> str:
    parts = word.split("%")
    out, position = parts[0], 1
    while position < len(parts):
        part = parts[position]
        if not part and position + 1 < len(parts):
            out += "%" + parts[position + 1]
            position += 2
            continue
        if not part or part[0] not in values:
            raise ValueError(f'there is no placeholder "%{part[:1]}"')
        out += values[part[0]] + part[1:]
        position += 1
    return out


async def run(command: str, values: Mapping[str, str], timeout_s: float) -> str:
    """Run it; returns what it has written. Raises CommandFailed. Cancelled, it is killed."""
    try:
        arguments = words(command, values)
        with anyio.fail_after(timeout_s):
            with anyio.CancelScope(shield=True):
                # Cancelled half-way, asyncio would lose sight of it.
                process = await anyio.open_process(
                    arguments, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, start_new_session=True
                )
            async with process:
                assert process.stdout is not None
                said = b"".join([some async for some in process.stdout])
                status = await process.wait()
    except ValueError as error:
        raise CommandFailed(str(error)) from None
    except TimeoutError:
        raise CommandFailed(f"did not end within {timeout_s:g} s") from None
    except OSError as error:
        raise CommandFailed(f"could not be started: {error.strerror or error}") from None
    output = said.decode(errors="replace").strip()
    if status:
        told = f": {output[-OUTPUT_MAX:]}" if output else ""
        raise CommandFailed(f"ended with status {status}{told}")
    return output[-OUTPUT_MAX:]
