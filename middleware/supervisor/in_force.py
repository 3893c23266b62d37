"""The settings in force, and what the files that they name held when they were read last.

In: Settings. Out: certificates and keys, who may come in, and as whom the nodes are asked. What is read anew is looked
at as a whole before it is in force.
"""

from typing import NamedTuple

from healthcheck.line import Credentials
from middleware.auth import Access, FileMistake
from middleware.config import Settings
from middleware.config.access import access_of, seed_of
from middleware.config.contradictions import access_mistakes
from middleware.config.fields import plain
from middleware.config.tls import TlsError
from middleware.supervisor.certificates import Certificates, read_certificates
from middleware.supervisor.listeners import StartError


class Reading(NamedTuple):
    """Settings and the content of their files, found good."""

    settings: Settings
    tls: Certificates
    access: Access


class InForce:
    """One Pointsman's."""

    def __init__(self, settings: Settings) -> None:
        """Read the files. Raises StartError."""
        self.settings = settings
        self._seed = seed_of(settings)
        try:
            self.tls = read_certificates(settings)
            self.access = access_of(settings, self._seed)
        except TlsError as error:
            raise StartError(f"{error.key}: {error}") from None
        except FileMistake as mistake:
            raise StartError(str(mistake)) from None
        self.access_told = self.access
        """The last that workers were told, with the work of SCRAM done."""

    @property
    def seed(self) -> bytes:
        """What salts are made of: the same as long as this process runs."""
        return self._seed

    def read(self, settings: Settings) -> tuple[Reading | None, list[str]]:
        """Read the files of these; with a line for each mistake where they cannot be used. Slow."""
        wrong: list[str] = []
        tls, access = self.tls, self.access
        try:
            tls = read_certificates(settings)
        except TlsError as error:
            wrong.append(f"{error.key}: {error}")
        try:
            access = access_of(settings, self._seed)
        except FileMistake as mistake:
            wrong.append(str(mistake))
        else:
            wrong.extend(f"{key[0]}: {why}" for key, why in access_mistakes(settings, access))
            had_users = bool(self._file_users(self.settings, self.access))
            if settings.auth_file and had_users and not self._file_users(settings, access):
                # As it is while somebody writes it.
                wrong.append(f"{settings.auth_file}: contains no users, and there were some")
        return (None if wrong else Reading(settings, tls, access)), wrong

    @staticmethod
    def _file_users(settings: Settings, access: Access) -> set[str]:
        return set(access.secrets.keys() - settings.users.keys())

    def other_files(self, reading: Reading) -> tuple[str, ...]:
        """The settings whose files have another content now, as far as they name the same ones."""
        before, settings = self.settings, reading.settings
        tls, was = reading.tls.told, self.tls.told
        access, known = reading.access, self.access
        of_files = {name: secret for name, secret in access.secrets.items() if name not in settings.users}
        were = {name: secret for name, secret in known.secrets.items() if name not in before.users}
        content = {
            "auth_hba_file": access.rules != known.rules,
            "auth_ident_file": access.maps != known.maps,
            "auth_file": of_files != were,
            "client_tls_cert_file": tls.clients.certificate != was.clients.certificate,
            "client_tls_key_file": tls.clients.key != was.clients.key,
            "client_tls_ca_file": tls.clients.authorities != was.clients.authorities,
            "server_tls_cert_file": tls.nodes.certificate != was.nodes.certificate,
            "server_tls_key_file": tls.nodes.key != was.nodes.key,
            "server_tls_ca_file": tls.nodes.authorities != was.nodes.authorities,
        }
        return tuple(
            key
            for key, other in content.items()
            if other and getattr(settings, key) and getattr(settings, key) == getattr(before, key)
        )

    def known_users(self) -> list[str]:
        """Whose passwords are in the settings or in their files."""
        return sorted({*self.settings.users, *self.access.secrets})

    # As whom the nodes are asked

    def credentials(self) -> Credentials:
        """Who looks at them."""
        checks = self.settings.health_check
        return self._as(checks.user, plain(checks.password), checks.database)

    def acting(self) -> Credentials:
        """Who promotes."""
        user = self.settings.failover_user
        return self._as_user(user, self.settings.health_check.database) if user else self.credentials()

    def asking(self) -> Credentials:
        """Who runs auth_query."""
        return self._as_user(self.settings.auth_user, self.settings.auth_dbname)

    def _as_user(self, user: str, database: str) -> Credentials:
        """One whose password is in [users] or auth_file."""
        return self._as(user, self.access.secrets.get(user), database)

    def _as(self, user: str, password: str | None, database: str) -> Credentials:
        direct = self.settings.server_tls_negotiation == "direct"
        return Credentials(user, password, database, self._own_tls, direct)

    def _own_tls(self) -> object:
        return self.tls.own
