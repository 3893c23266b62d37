"""Settings that name servers which are asked over HTTP, with or without TLS: what is wrong with them."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from healthcheck.web import TlsFiles

_URL: Final = re.compile(r"(https?://)?(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+):[0-9]{1,5}/?")

Mistake = tuple[tuple[int | str, ...], str]
"""A key path, and what is wrong with what stands there."""


def as_urls(hosts: Sequence[str]) -> tuple[str, ...]:
    """HOST:PORT is a URL without TLS."""
    return tuple((host if "://" in host else f"http://{host}").rstrip("/") for host in hosts)


def url_mistakes(prefix: str, key: str, hosts: Sequence[str], tls: TlsFiles) -> Iterator[Mistake]:
    """Those of `key`, which has a list of them, and of PREFIX_ca_file, PREFIX_cert_file and PREFIX_key_file."""
    for host in hosts:
        if not _URL.fullmatch(host):
            yield (key,), f'"{host}" is not allowed: a list of HOST:PORT or URLs'
            return
    if bool(tls.cert_file) != bool(tls.key_file):
        lacks = f"{prefix}_key_file" if tls.cert_file else f"{prefix}_cert_file"
        yield (lacks,), f"missing: {prefix}_cert_file and {prefix}_key_file go together"
        return
    files = {name: getattr(tls, name) for name in ("ca_file", "cert_file", "key_file") if getattr(tls, name)}
    for name, file in files.items():
        try:
            open(file, "rb").close()
        except OSError as error:
            yield (f"{prefix}_{name}",), f"cannot be read: {file}: {(error.strerror or str(error)).lower()}"
            return
    if not files:
        return
    if not all(host.startswith("https://") for host in hosts):
        yield (key,), f"not allowed: with {prefix}_ca_file or {prefix}_cert_file each begins with https://"
        return
    try:
        tls.context(["https:"])
    except OSError:
        # Which of them it is, and what is wrong, OpenSSL does not say for people.
        why = "not a certificate, or a key that does not belong to it"
        yield (f"{prefix}_{next(iter(files))}",), f"cannot be used: {', '.join(files.values())}: {why}"
