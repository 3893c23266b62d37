"""The settings of several Pointsmans before one cluster, as a group of Settings (see middleware.config.connections)."""

import re
from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel, SecretStr

from healthcheck.etcd import Members
from middleware.config.fields import path, plain, setting, whole

_URL: Final = re.compile(r"(https?://)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}/?")


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
        urls = (host if "://" in host else f"http://{host}" for host in self.etcd_hosts)
        return Members(
            tuple(url.rstrip("/") for url in urls),
            self.etcd_user,
            plain(self.etcd_password) or "",
            self.etcd_ca_file,
            self.etcd_cert_file,
            self.etcd_key_file,
        )


def instances_mistakes(settings: Instances, *, promotes: bool) -> Iterator[tuple[tuple[int | str, ...], str]]:
    """What no field shows on its own."""
    if promotes and settings.instances > 1 and not settings.etcd_hosts:
        yield (
            ("etcd_hosts",),
            f'missing: failover "promote" with {settings.instances} instances needs etcd, so that one of them promotes',
        )
    for host in settings.etcd_hosts:
        if not _URL.fullmatch(host):
            yield ("etcd_hosts",), f'"{host}" is not allowed: a list of HOST:PORT or URLs'
            return
    if bool(settings.etcd_user) != bool(plain(settings.etcd_password)):
        lacks = "etcd_password" if settings.etcd_user else "etcd_user"
        yield (lacks,), "missing: etcd_user and etcd_password go together"
    if bool(settings.etcd_cert_file) != bool(settings.etcd_key_file):
        lacks = "etcd_key_file" if settings.etcd_cert_file else "etcd_cert_file"
        yield (lacks,), "missing: etcd_cert_file and etcd_key_file go together"
        return
    yield from _files(settings)


def _files(settings: Instances) -> Iterator[tuple[tuple[int | str, ...], str]]:
    files = {key: getattr(settings, key) for key in ("etcd_ca_file", "etcd_cert_file", "etcd_key_file")}
    for key, name in files.items():
        try:
            if name:
                open(name, "rb").close()
        except OSError as error:
            yield (key,), f"cannot be read: {name}: {(error.strerror or str(error)).lower()}"
            return
    if not any(files.values()):
        return
    if not all(host.startswith("https://") for host in settings.etcd_hosts):
        yield ("etcd_hosts",), "not allowed: with etcd_ca_file or etcd_cert_file each begins with https://"
        return
    try:
        settings.etcd_members().tls()
    except OSError:
        # Which of them it is, and what is wrong, OpenSSL does not say for people.
        named = {key: name for key, name in files.items() if name}
        why = "not a certificate, or a key that does not belong to it"
        yield (next(iter(named)),), f"cannot be used: {', '.join(named.values())}: {why}"
