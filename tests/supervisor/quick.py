"""A supervisor in this process whose probes are quick, and what tests ask of it."""

from collections.abc import Callable

import anyio
import pytest

from middleware.config import Settings, build_settings
from middleware.sandbox import Sandbox
from middleware.supervisor import Supervisor

DEADLINE_S = 60.0


def quick_settings(sandbox: Sandbox, **more: object) -> Settings:
    """For a sandbox's nodes and users; a node is down after some tenths of a second."""
    return build_settings(
        {
            "listen_addr": "127.0.0.1",
            "listen_port": 0,
            "shutdown_timeout": 1.0,
            "health_check": {
                "user": "pointsman",
                "password": sandbox.passwords["pointsman"],
                "period": 0.2,
                "retry_delay": 0.1,
                "timeout": 1.0,
            },
            "nodes": {node.name: {"host": node.host, "port": node.port} for node in sandbox.nodes},
            "users": {name: {"password": password} for name, password in sandbox.passwords.items()},
            "failover_user": "postgres",
            **more,
        },
        origin="test",
    )


async def until(condition: Callable[[], bool], supervisor: Supervisor) -> None:
    """Wait for the condition; fail with what the supervisor has seen where it does not come."""
    with anyio.move_on_after(DEADLINE_S):
        while not condition():
            await anyio.sleep(0.02)
        return
    pytest.fail(f"{supervisor.topology} {[one.text for one in supervisor.happenings]}")


def primary_of(supervisor: Supervisor) -> str:
    """The primary's name; "" while there is none."""
    primary = supervisor.topology.primary()
    return "" if primary is None else primary.name


def happened(supervisor: Supervisor, *whats: str) -> list[str]:
    """What has happened, by its names for machines: all, or these."""
    return [one.what for one in supervisor.happenings if not whats or one.what in whats]


def promoting(sandbox: Sandbox, **more: object) -> Settings:
    """The same with failover = promote, soon."""
    return quick_settings(sandbox, **{"failover": "promote", "failover_after": 0.3, **more})
