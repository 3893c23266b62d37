"""One reading of the files of certificates and keys, for the workers and for our own connections to the nodes."""

from typing import Any, NamedTuple

from middleware.config import Settings
from middleware.config.tls import TlsError, asyncpg_tls, client_tls_of, material_of, server_context
from middleware.control import SetTls


class Certificates(NamedTuple):
    """One reading of the files of certificates and keys."""

    told: SetTls
    """To the workers."""
    own: Any
    """What asyncpg takes for our own connections."""


def read_certificates(settings: Settings) -> Certificates:
    """Read the files, and see that a worker can use them. Raises TlsError, whose `key` is the setting's whole name."""
    side = "client_tls"
    try:
        clients = material_of(settings.client_tls())
        client_tls_of(clients)
        side = "server_tls"
        nodes = material_of(settings.server_tls())
        server_context(nodes)
        return Certificates(SetTls(clients, nodes), asyncpg_tls(nodes))
    except TlsError as error:
        raise TlsError(f"{side}_{error.key}", str(error)) from None
