"""What a browser may be used for by pages that are not ours: nothing.

In: what a request says of where it comes from. Out: why it is refused, "" where it is not; the headers that tell a
browser what our page may do. Pure.
"""

import ipaddress
from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import urlsplit

HEADERS: Final[Mapping[str, str]] = {
    # Our own files and nothing else; no markup from strings, whatever a script of ours does.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

PROXY_HEADERS: Final = ("Forwarded", "Via", "X-Forwarded-For", "X-Real-IP")


def foreign_host(host: str, *, local: str, known: Collection[str]) -> str:
    """Why a request for `host` (its Host header) is not answered at the address `local`.

    A page of a stranger's whose name was made to point here (DNS rebinding) is in the browser's eyes of one origin
    with us, and may read all. It cannot help to send that name: so names must be known. An address is no name, and
    beyond loopback we cannot know how we are called, where nobody says so.
    """
    name = host_name(host)
    if not name:
        return "the Host header is missing or malformed"
    if name == "localhost" or name.endswith(".localhost") or is_address(name):
        return ""
    if name in {one.lower() for one in known}:
        return ""
    if not known and not is_loopback(local):
        return ""
    return "the Host header has a name that is not known: see dashboard_hosts"


def foreign_origin(headers: Mapping[str, str]) -> str:
    """Why a request that does something is not of our own page. Browsers say; other programs need not."""
    site = headers.get("Sec-Fetch-Site")
    if site is not None and site != "same-origin":
        return "the request was made by a page of another site"
    origin = headers.get("Origin")
    if origin is not None:
        try:
            netloc = urlsplit(origin).netloc
        except ValueError:
            netloc = ""
        # Not the scheme: a proxy in front of us may have ended TLS.
        if netloc.lower() != headers.get("Host", "").lower() or not netloc:
            return "the request was made by a page of another site"
    return ""


def comes_from_here(peer: str, headers: Mapping[str, str]) -> bool:
    """Whether who asks is on this machine. Who says that it asks for another is not."""
    return is_loopback(peer) and not any(name in headers for name in PROXY_HEADERS)


def host_name(host: str) -> str:
    """Of a Host header: the name or address without its port, in lower case; "" for what is none."""
    try:
        return (urlsplit(f"//{host}").hostname or "").rstrip(".").lower()
    except ValueError:
        return ""


def is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def is_loopback(address: str) -> bool:
    try:
        one = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = one.ipv4_mapped if isinstance(one, ipaddress.IPv6Address) else None
    return (mapped or one).is_loopback
