"""The settings of several Pointsmans before one cluster, as a group of Settings (see middleware.config.connections)."""

from collections.abc import Iterator

from pydantic import BaseModel, SecretStr

from healthcheck.etcd import Members
from healthcheck.web import TlsFiles
from middleware.config.fields import path, plain, setting, whole
from middleware.config.urls import Mistake, as_urls, url_mistakes


class Instances(BaseModel):
    """Several Pointsmans

    In front of one cluster, one of them promotes: see [failover.md](failover.md#several-pointsmans)."""

    instances: int = whole(
        1, 1, 1000, "How many Pointsmans serve this cluster. With several, failover = promote needs etcd_hosts."
    )
    instance_name: str = setting(
        "", "a string", "What this one is called where others read who leads; by default its host's name and its port."
    )
    etcd_hosts: tuple[str, ...] = setting(
        (),
        "a list of HOST:PORT or URLs",
        "The members of the etcd cluster in which one of them holds a lease.",
        peers="patroni: etcd3.hosts",
    )
    etcd_prefix: str = setting(
        "/pointsman/main",
        "a string",
        "What their keys begin with: the same for all in front of one cluster, and for no others.",
        min_length=1,
        peers="patroni: namespace, scope",
    )
    etcd_ttl: int = whole(
        10, 2, 3600, "Seconds of the lease: another leads so long after one that is gone.", peers="patroni: ttl"
    )
    etcd_user: str = setting("", "the name of a user of etcd", "Who asks etcd.", peers="patroni: etcd3.username")
    etcd_password: SecretStr = setting(SecretStr(""), "a string", "Its password.", peers="patroni: etcd3.password")
    etcd_ca_file: str = path(
        "Who signs etcd's certificates; by default those the system trusts.", peers="patroni: etcd3.cacert"
    )
    etcd_cert_file: str = path("Our certificate towards etcd.", peers="patroni: etcd3.cert")
    etcd_key_file: str = path("Its key.", peers="patroni: etcd3.key")

    def etcd_members(self) -> Members:
        """Where etcd is, and who asks."""
        tls = TlsFiles(self.etcd_ca_file, self.etcd_cert_file, self.etcd_key_file)
        return Members(as_urls(self.etcd_hosts), self.etcd_user, plain(self.etcd_password) or "", tls)


def instances_mistakes(settings: Instances, *, promotes: bool) -> Iterator[Mistake]:
    """What no field shows on its own."""
    if promotes and settings.instances > 1 and not settings.etcd_hosts:
        yield (
            ("etcd_hosts",),
            f'missing: failover "promote" with {settings.instances} instances needs etcd, so that one of them promotes',
        )
    if bool(settings.etcd_user) != bool(plain(settings.etcd_password)):
        lacks = "etcd_password" if settings.etcd_user else "etcd_user"
        yield (lacks,), "missing: etcd_user and etcd_password go together"
    yield from url_mistakes("etcd", "etcd_hosts", settings.etcd_hosts, settings.etcd_members().tls)
