"""The work of SCRAM for plain passwords, done ahead and by a thread: else a user's first login would take the time, and
tell that there is such a user.

One password takes a millisecond or two. So that thousands keep nobody waiting, an Access is passed on with what was
derived within AHEAD_S, and once more when all is there; until then, a worker derives for itself what is missing.
"""

import time
from collections.abc import Callable
from typing import Final

import anyio
import anyio.to_thread
import msgspec

from middleware.auth import Access
from middleware.auth.made_up import derived
from middleware.auth.rules import kind_of
from middleware.auth.scram import Verifier

AHEAD_S: Final = 2.0
"""How long an Access waits for its verifiers, at a start and at a reload."""
BATCH: Final = 50
"""Passwords to one visit of the thread: about a tenth of a second, after which a newer Access is looked for."""


class Derivations:
    """Gives each Access its verifiers, and passes it to `told`."""

    def __init__(self, access: Access, told: Callable[[Access], None]) -> None:
        self._access = access
        self._told: Final = told
        self._known: dict[tuple[str, str], Verifier] = {}
        """By user and password."""
        self._wanted = anyio.Event()
        self._wanted.set()
        self._passed_on = anyio.Event()
        self.begun: Final = anyio.Event()
        """Set once an Access was told."""

    def use(self, access: Access) -> None:
        """In place of the one before, done or not."""
        self._access = access
        self._passed_on = anyio.Event()
        self._wanted.set()

    async def passed_on(self) -> None:
        """Until the newest was told, with what was derived by then."""
        await self._passed_on.wait()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted = anyio.Event()
            await self._tell(self._access)

    async def _tell(self, access: Access) -> None:
        plain = {(user, secret) for user, secret in access.secrets.items() if secret and kind_of(secret) == "plain"}
        missing = sorted(plain - self._known.keys())
        until, late = time.monotonic() + AHEAD_S, False
        for start in range(0, len(missing), BATCH):
            if self._wanted.is_set():
                # There is a newer one.
                return
            if not late and time.monotonic() > until:
                late = True
                self._pass_on(access, plain)
            batch = missing[start : start + BATCH]
            self._known.update(await anyio.to_thread.run_sync(_derive, access.seed, batch))
        self._known = {one: verifier for one, verifier in self._known.items() if one in plain}
        self._pass_on(access, plain)

    def _pass_on(self, access: Access, plain: set[tuple[str, str]]) -> None:
        verifiers = {one[0]: self._known[one] for one in plain & self._known.keys()}
        self._told(msgspec.structs.replace(access, verifiers=verifiers))
        self.begun.set()
        if access is self._access:
            self._passed_on.set()


def _derive(seed: bytes, batch: list[tuple[str, str]]) -> dict[tuple[str, str], Verifier]:
    return {(user, password): derived(seed, user, password) for user, password in batch}
