"""The settings of what an operator sees and does, as a group of Settings (see middleware.config.connections)."""

from typing import Literal

from pydantic import BaseModel, SecretStr

from middleware.config.fields import one_of, seconds, setting, whole

Watching = Literal["on", "local", "login", "off"]


class Operating(BaseModel):
    """Operations

    The admin console, and what is served over HTTP: see [console.md](console.md) and [operations.md](operations.md)."""

    stats_users: tuple[str, ...] = setting(
        (),
        "a list of names of users",
        "Users who may look, by SHOW, in the admin console; admin_users may do anything there.",
        peers="pgbouncer: stats_users",
    )
    stats_period: float = seconds(
        60.0, "How long what SHOW STATS tells averages of is: up to twice as long.", peers="pgbouncer: stats_period"
    )
    digests_max: int = whole(
        1000, 0, 100_000, "Shapes of statements whose use each worker counts; the least used go. 0 for none."
    )
    http_listen_addr: str = setting(
        "127.0.0.1",
        "addresses or names, separated by commas",
        "Where HTTP is served: metrics, health, the dashboard.",
        min_length=1,
    )
    http_port: int = whole(0, 0, 65_535, "Its port; 0 for no HTTP.")
    dashboard: Watching = one_of(
        "local",
        Watching,
        "Who may look at the dashboard, which shows statements without their literals and the names of users, "
        'databases and applications: whoever reaches it ("on"), who comes from this machine or is logged in ("local"), '
        'who is logged in ("login"), or nobody, as it is not there ("off").',
    )
    dashboard_hosts: tuple[str, ...] = setting(
        (),
        "a list of host names",
        "Names, beside localhost, by which browsers call the dashboard, such as a proxy's in front of it. With none, "
        "any name will do where it listens beyond loopback; addresses always do.",
    )
    dashboard_password: SecretStr = setting(
        SecretStr(""),
        "a string",
        'With it, the dashboard can be logged in to as "admin" and has its buttons; without, it only shows.',
    )
