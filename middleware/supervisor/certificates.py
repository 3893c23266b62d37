"""One reading of the files of certificates and keys, for the workers and for our own connections to the nodes."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from middleware.config import Settings
from middleware.config.tls import TlsError, asyncpg_tls, client_tls_of, material_of, not_after_of, server_context
from middleware.control import SetTls


class Certificates(NamedTuple):
    """One reading of the files of certificates and keys."""

    told: SetTls
    """To the workers."""
    own: Any
    """What asyncpg takes for our own connections."""
    not_after: Mapping[str, float]
    """When ours expire, since 1970, by the setting that names the file."""


def read_certificates(settings: Settings) -> Certificates:
    """Read the files, and see that a worker can use them. Raises TlsError, whose `key` is the setting's whole name."""
    side = "client_tls"
    try:
        clients = material_of(settings.client_tls())
        client_tls_of(clients)
        side = "server_tls"
        nodes = material_of(settings.server_tls())
        server_context(nodes)
        moments = {"client_tls_cert_file": not_after_of(clients), "server_tls_cert_file": not_after_of(nodes)}
        not_after = {setting: moment for setting, moment in moments.items() if moment is not None}
        return Certificates(SetTls(clients, nodes), asyncpg_tls(nodes), not_after)
    except TlsError as error:
        raise TlsError(f"{side}_{error.key}", str(error)) from None
