"""A client: its session through the endpoint, its session directly, and what has been said in both."""

import random
import re
from collections import deque
from typing import Final, NamedTuple

from tests.differential.raw_client import Address
from tests.statefuzz.operation import Operation
from tests.statefuzz.phrase import CHANNELS, ROLES, Speaker
from tests.statefuzz.session import LOST, Session, Startup, is_error

REMEMBERED: Final = 30

STARTUPS: Final[tuple[Startup, ...]] = (
    (),
    (("application_name", "at login"),),
    (("search_path", "alt, public"),),
    (("options", "-c work_mem=3MB -c fuzz.a=given"),),
    (("options", "-c statement_timeout=500s -c fuzz.b=given"), ("TimeZone", "Asia/Tokyo")),
    (("DateStyle", "SQL, DMY"), ("extra_float_digits", "0"), ("application_name", "dated")),
    (("options", "-c default_transaction_isolation=serializable -c IntervalStyle=iso_8601"),),
    (("options", f"-c role={ROLES[1]}"),),
)
"""What clients say when they log in."""

PROBED: Final = (
    *(
        f"current_setting('{name}')"
        for name in (
            "work_mem",
            "statement_timeout",
            "search_path",
            "TimeZone",
            "DateStyle",
            "IntervalStyle",
            "application_name",
            "extra_float_digits",
            "fuzz.a",
            "default_transaction_isolation",
            "default_transaction_read_only",
            "role",
        )
    ),
    "coalesce(current_setting('fuzz.b', true), '')",
    "current_user",
    "session_user",
    "ARRAY(SELECT c FROM pg_listening_channels() c ORDER BY c)",
    "ARRAY(SELECT (classid, objid, objsubid, mode)::text FROM pg_locks "
    "WHERE locktype = 'advisory' AND pid = pg_backend_pid() ORDER BY 1)",
    "ARRAY(SELECT name FROM pg_cursors WHERE name <> '' ORDER BY 1)",
    "ARRAY(SELECT relname FROM pg_class WHERE relnamespace = pg_my_temp_schema() ORDER BY 1)",
    "ARRAY(SELECT name FROM pg_prepared_statements WHERE from_sql ORDER BY 1)",
)
"""All that can be asked of a session."""

PROBE: Final = "VALUES " + ", ".join(
    f"('{re.findall('[a-z_.]+', text.replace('current_setting', '').replace('ARRAY(SELECT', ''))[0]} "
    f"{number}', ({text})::text)"
    for number, text in enumerate(PROBED)
)
"""A row for each, with a name."""

HELD: Final = (
    "SELECT ARRAY(SELECT pg_listening_channels()), EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' "
    "AND pid = pg_backend_pid()) OR EXISTS (SELECT FROM pg_cursors WHERE is_holdable) "
    "OR EXISTS (SELECT FROM pg_class WHERE relnamespace = pg_my_temp_schema())"
)
"""Asked directly only: the channels the session listens to, and whether it holds anything else that pins."""

SQLSTATE: Final = re.compile("[0-9A-Z]{5}: ")
"""How the word for an error begins."""


class Difference(NamedTuple):
    """What a client saw through the endpoint, and what directly."""

    kind: str
    client: int
    shown: str
    here: tuple[str, ...]
    there: tuple[str, ...]
    history: tuple[str, ...]
    fewest: tuple[str, ...] = ()
    """The fewest steps of all clients that lead to it, where they were looked for."""


def refused_alike(here: list[str], there: list[str]) -> bool:
    """Whether a Bind that fails for two reasons fails for the other one.

    PostgreSQL counts its parameters before it sees that the transaction has failed. A server that lacks the statement
    cannot be given it in a failed transaction, and says only that.
    """
    return len(here) == len(there) and all(
        one == other or (one.startswith("25P02: ") and other.startswith("08P01: bind message supplies"))
        for one, other in zip(here, there, strict=True)
    )


class Pair:
    """One client."""

    def __init__(self, number: int, endpoint: Address, direct: Address) -> None:
        self.number: Final = number
        self.table: Final = f"own_{number}"
        self._endpoint: Final = endpoint
        self._direct: Final = direct
        self.open = False
        self.pinned = False
        """By what its direct session holds."""
        self.channels: tuple[str, ...] = ()
        """Those it listens to, in the order of CHANNELS."""
        self.notes = 0
        """Notifications that were compared."""
        self.notified = False
        """It has sent a notification, and its transaction is open."""
        self.failed = False
        """Its last operation was answered with an error."""
        self.history: deque[str] = deque(maxlen=REMEMBERED)

    def speaker(self, rng: random.Random) -> Speaker:
        return Speaker(rng, self.table)

    @property
    def status(self) -> bytes:
        """The transaction status."""
        return self.there.status if self.open else LOST

    @property
    def idle(self) -> bool:
        return self.status == b"I"

    @property
    def occupied(self) -> bool:
        """Whether it keeps a server between its operations."""
        return self.pinned or self.status in (b"T", b"E")

    def connect(self, startup: Startup) -> Difference | None:
        """New sessions, which have nothing of any session before."""
        self.here, self.there = Session(self._endpoint, startup), Session(self._direct, startup)
        self.open = True
        self.pinned = self.notified = self.failed = False
        self.channels = ()
        shown = f"[connection] connect {dict(startup)}"
        self.history.clear()
        self._remember(shown, self.there.greeting)
        return self._compare("connect", shown, self.here.greeting, self.there.greeting) or self.probe()

    def probe(self) -> Difference | None:
        """Compare all that can be asked."""
        here, there = self.here.rows(PROBE), self.there.rows(PROBE)
        self._remember("[probe]", [there[-1]])
        return self._compare("probe", "[probe]", here, there)

    def act(self, operation: Operation) -> Difference | None:
        """Do it in both sessions, and compare."""
        occupied = self.occupied
        here = self.here.ask(operation.data, operation.readies)
        there = self.there.ask(operation.data, operation.readies)
        self._remember(operation.shown, there)
        self.failed = any(SQLSTATE.match(word) for word in there)
        difference = self._compare(operation.form, operation.shown, here, there)
        self.notified |= operation.notifies
        if self.idle and (occupied or operation.occupies):
            listens, _, holds = self.there.rows(HELD)[1].partition("|")
            self.channels = tuple(name for name in CHANNELS if name in listens)
            self.pinned = bool(self.channels) or holds == "t"
        return difference

    def hear(self, payload: str, timeout_s: float) -> Difference | None:
        """Compare the notifications up to a marker of this payload, which was sent to all channels, and forget them.

        A client in a transaction hears them at its end: it is left alone.
        """
        if not self.idle:
            return None
        shown = f"notifications up to {payload!r}"
        if self.channels:
            for session in (self.here, self.there):
                session.wait_for_note((self.channels[-1], payload), timeout_s)
        heard = [[f"{channel}:{text}" for channel, text in session.notes] for session in (self.here, self.there)]
        self.notes += len(self.there.notes)
        self.here.notes.clear()
        self.there.notes.clear()
        if heard[1]:
            self._remember(shown, heard[1])
        return self._compare("notifications", shown, *heard)

    def close(self, *, politely: bool, last_words: bytes = b"") -> None:
        for session in (self.here, self.there):
            session.close(politely=politely, last_words=last_words)
        self.open = self.pinned = False
        self.channels = ()

    def _remember(self, shown: str, answer: list[str]) -> None:
        self.history.append(f"{shown}  =>  {' '.join(answer)}")

    def _compare(self, kind: str, shown: str, here: list[str], there: list[str]) -> Difference | None:
        if self.there.status == b"E" and all(any(map(is_error, words)) for words in (here, there)):
            # What has to be put in place for an answer cannot be, in a failed transaction.
            here = there = []
        if here != there and not refused_alike(here, there):
            return Difference(kind, self.number, shown, tuple(here), tuple(there), tuple(self.history))
        if (reported := self.here.parameters) != (directly := self.there.parameters):
            names = sorted({name for name, _ in reported.items() ^ directly.items()})
            both = [
                tuple(f"{name.decode()}={told.get(name, b'-').decode()}" for name in names)
                for told in (reported, directly)
            ]
            return Difference("ParameterStatus", self.number, shown, both[0], both[1], tuple(self.history))
        return None
