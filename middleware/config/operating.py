"""The settings of what an operator sees and does, as a group of Settings (see middleware.config.connections)."""

from pydantic import BaseModel, SecretStr

from middleware.config.fields import seconds, setting, whole


class Operating(BaseModel):
    """Operations

    The admin console, and what is served over HTTP: see [operations.md](operations.md)."""

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
    dashboard_password: SecretStr = setting(
        SecretStr(""),
        "a string",
        'With it, the dashboard can be logged in to as "admin" and has its buttons; without, it only shows.',
    )
