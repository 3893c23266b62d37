"""The settings of a cluster that Patroni runs, as a group of Settings (see middleware.config.connections)."""

from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel

from healthcheck.web import TlsFiles
from middleware.config.fields import one_of, path, setting
from middleware.config.urls import Mistake, as_urls, url_mistakes

TopologySource = Literal["nodes", "patroni"]


class FromPatroni(BaseModel):
    """Patroni

    Roles by Patroni's word: see [patroni.md](patroni.md)."""

    topology: TopologySource = one_of(
        "nodes",
        TopologySource,
        "Who says which node is the primary: the nodes themselves, or Patroni, which the node must agree with.",
    )
    patroni_urls: tuple[str, ...] = setting(
        (),
        "a list of HOST:PORT or URLs",
        "Patroni's REST API, of one member or several. One answer is enough; further members are learned from it.",
        peers="patroni: restapi.connect_address",
    )
    patroni_ca_file: str = path(
        "Who signs the REST API's certificates; by default those the system trusts.", peers="patroni: ctl.cacert"
    )
    patroni_cert_file: str = path(
        "Our certificate towards it, where its verify_client is required.", peers="patroni: ctl.certfile"
    )
    patroni_key_file: str = path("Its key.", peers="patroni: ctl.keyfile")

    def patroni_places(self) -> tuple[str, ...]:
        """`patroni_urls` as URLs."""
        return as_urls(self.patroni_urls)

    def patroni_tls(self) -> TlsFiles:
        """TLS with the REST API."""
        return TlsFiles(self.patroni_ca_file, self.patroni_cert_file, self.patroni_key_file)


def patroni_mistakes(settings: FromPatroni, failover: str) -> Iterator[Mistake]:
    """What no field shows on its own."""
    if settings.topology == "patroni":
        if not settings.patroni_urls:
            yield ("patroni_urls",), 'missing: topology "patroni" needs Patroni\'s REST API'
        if failover != "follow":
            yield (
                ("failover",),
                f'"{failover}" is not allowed with topology "patroni": "follow", since Patroni promotes',
            )
    yield from url_mistakes("patroni", "patroni_urls", settings.patroni_urls, settings.patroni_tls())
