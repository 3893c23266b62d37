"""Checks: who else hears what is served over HTTP?"""

import ipaddress
from collections.abc import Iterator

from middleware.doctor.facts import Case
from middleware.doctor.finding import Finding, warning


def dashboard_password(case: Case) -> Iterator[Finding]:
    """`dashboard_password` and a `http_listen_addr` beyond this machine: HTTP is served without TLS."""
    settings = case.settings
    if not settings.http_port or settings.dashboard == "off" or not settings.dashboard_password.get_secret_value():
        return
    beyond = [name for name in settings.http_addresses() if not _is_here(name)]
    if beyond:
        yield warning(
            f"http_listen_addr {', '.join(beyond)}, and a dashboard_password",
            "It crosses the network as it is, and so does the cookie of who is logged in: whoever reads along may hand "
            "over the primary.",
            'http_listen_addr = "127.0.0.1", with a proxy in front that has TLS, or ssh -L; or dashboard = "off"',
        )


def dashboard_open(case: Case) -> Iterator[Finding]:
    """`dashboard` is "on", and `http_listen_addr` beyond this machine."""
    settings = case.settings
    beyond = [name for name in settings.http_addresses() if not _is_here(name)]
    if settings.http_port and settings.dashboard == "on" and beyond:
        yield warning(
            f'dashboard "on", http_listen_addr {", ".join(beyond)}',
            "Whoever reaches it sees the statements' shapes, and the names of users, databases and applications.",
            'dashboard = "local" or "login"',
        )


def _is_here(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


CHECKS = (dashboard_password, dashboard_open)
