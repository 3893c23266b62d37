"""The settings of what an operator sees and does, as a group of Settings (see middleware.config.connections)."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Literal
from urllib.parse import urlsplit

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
    otel_endpoint: SecretStr = setting(
        SecretStr(""),
        "a URL such as http://collector:4318",
        "Where traces are sent, by OTLP over HTTP: a span for each statement, see [tracing.md](tracing.md); "
        "\"\" for none. Needs the package: pip install 'pointsman[otel]'.",
    )
    otel_sample_ratio: float = setting(
        0.01,
        "a number from 0 to 1",
        "The part of statements that have a span, of those that come without a traceparent of their own.",
        ge=0,
        le=1,
    )


def tracing_mistakes(settings: Any) -> Iterator[tuple[tuple[str], str]]:
    """What the fields do not show on their own, as in middleware.config.contradictions."""
    endpoint = settings.otel_endpoint.get_secret_value()
    if not endpoint:
        return
    try:
        url = urlsplit(endpoint)
        good = url.scheme in ("http", "https") and bool(url.hostname) and (url.port is None or url.port > 0)
    except ValueError:
        good = False
    if not good:
        # It may hold a password: not shown.
        yield ("otel_endpoint",), "the value is not allowed: a URL such as http://collector:4318"
    elif find_spec("opentelemetry") is None:
        yield ("otel_endpoint",), "the package opentelemetry is not installed: pip install 'pointsman[otel]'"
