"""What asking over HTTP is made of: TLS from files, and the reasons why there is no answer."""

import ssl
from collections.abc import Sequence

import httpx
import msgspec


class TlsFiles(msgspec.Struct, frozen=True):
    """ "" for a file that there is none of."""

    ca_file: str = ""
    """Who signs the other side's certificates; "" for those the system trusts."""
    cert_file: str = ""
    key_file: str = ""

    def context(self, urls: Sequence[str]) -> ssl.SSLContext | bool:
        """What httpx takes as `verify`, with the files as they are now. Raises OSError; ssl.SSLError is one."""
        if not any(url.startswith("https:") for url in urls):
            return True
        context = ssl.create_default_context(cafile=self.ca_file or None)
        if self.cert_file:
            context.load_cert_chain(self.cert_file, self.key_file)
        return context


def new_client(urls: Sequence[str], tls: TlsFiles, timeout_s: float) -> httpx.AsyncClient:
    """One that goes to where it is told. Raises OSError for files that cannot be used."""
    # A proxy that the environment names is for other traffic than this.
    return httpx.AsyncClient(verify=tls.context(urls), timeout=timeout_s, trust_env=False, follow_redirects=False)


def reason(error: Exception, timeout_s: float) -> str:
    """An error of httpx in one line."""
    if isinstance(error, httpx.TimeoutException):
        return f"no answer within {timeout_s:g} s"
    return str(error).partition("\n")[0] or type(error).__name__
