"""Statements through a running Pointsman, in the forms clients use: where each ran, the servers' logs tell.

In: conversations of `forms`. Out: a finding for each statement. One that a standby should have had is asked again for a
while before it counts as stayed: a catalog is read again after DDL, and until then the primary has everything.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, NamedTuple, Self

from middleware.sandbox import Sandbox
from middleware.wire.backend import CopyInResponse, DataRow, ErrorResponse, NoData, ReadyForQuery, RowDescription
from middleware.wire.fields import Message
from middleware.wire.frontend import CopyDone
from tests.chunks import cut
from tests.conftest import Endpoint, pointsman
from tests.differential.raw_client import Address, Ending, RawClient
from tests.oracle.choice import chosen
from tests.oracle.crowd import crowd
from tests.oracle.forms import (
    NODE,
    PARSED_FIRST,
    SYNC,
    Asked,
    Composer,
    Conversation,
    Form,
    Step,
    changes_schema,
    changes_settings,
    query,
)
from tests.oracle.journal import Entries, Journal, journal
from tests.oracle.judge import Outcome
from tests.oracle.statement import Statement, Where
from tests.oracle.trial import Decide, Finding, Kind, Tally
from tests.waiting import eventually

ANSWER_S: Final = 15.0
AGAIN_S: Final = 5.0
PIECES_MAX: Final = 6
FRESH_CHANCE: Final = 0.03
"""Of a new connection for the next conversation."""
WHO: Final = "SELECT current_setting('cluster_name')"


class Heard(NamedTuple):
    """What a client has heard in a conversation."""

    errors: tuple[Outcome, ...]
    nodes: tuple[str, ...]
    """Those that statements have named, in their rows."""
    trouble: str = ""
    """What no client should see: no answer, or a transaction that nobody began."""


class Clients:
    """A connection for each user, made when it is needed. A context manager."""

    def __init__(self, cluster: Sandbox, endpoint: Endpoint, database: str) -> None:
        self._cluster = cluster
        self._endpoint = endpoint
        self._database = database
        self._open: dict[str, RawClient] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for user in list(self._open):
            self.forget(user)

    def of(self, user: str) -> RawClient:
        client = self._open.get(user)
        if client is None:
            password = self._cluster.passwords[user]
            client = RawClient(Address(self._endpoint.host, self._endpoint.port, user, password, self._database))
            self._open[user] = client
            _, ending = client.log_in()
            assert ending is Ending.ENOUGH, f"{user} could not log in"
        return client

    def forget(self, user: str) -> None:
        client = self._open.pop(user, None)
        if client is not None:
            client.__exit__(None, None, None)


class Through:
    """Holds conversations with an endpoint, and judges them."""

    def __init__(self, cluster: Sandbox, clients: Clients, log: Journal, seed: int) -> None:
        self._primary = cluster.primary.name
        self._clients = clients
        self._log = log
        self._random = random.Random(seed)
        self._composer = Composer(seed)

    def wait_until_known(self, user: str) -> None:
        """Until the catalog is loaded and a standby serves this user's reads."""
        eventually(lambda: self._serves(user) not in ("", self._primary))

    def _serves(self, user: str) -> str:
        heard = self._hold(user, (Step(query(f"{WHO} AS {NODE} FROM plain LIMIT 1")),))
        return heard.nodes[0] if heard.nodes else ""

    def findings(self, form: Form, statements: Sequence[Statement]) -> list[Finding]:
        """Send them in this form, again if a standby should have had what the primary got."""
        until = time.monotonic() + AGAIN_S
        while True:
            conversation = self._composer.compose(form, statements)
            found = self._judged(conversation)
            if all(finding.kind is not Kind.STAYED for finding in found) or time.monotonic() > until:
                return found
            time.sleep(0.05)
            self._clients.forget(statements[0].user)

    def _judged(self, conversation: Conversation) -> list[Finding]:
        user = conversation.asked[0].statement.user
        heard = self._hold(user, conversation.steps)
        found = judge(conversation, heard, self._log.news(), self._primary)
        # Who has made a temporary table reads on the primary from then on.
        if (
            heard.trouble
            or any(changes_schema(one.statement) or changes_settings(one.statement) for one in conversation.asked)
            or self._random.random() < FRESH_CHANCE
        ):
            self._clients.forget(user)
        return found

    def _hold(self, user: str, steps: Sequence[Step]) -> Heard:
        client = self._clients.of(user)
        came: list[Message] = []
        for step in steps:
            self._send(client, step.data)
            if trouble := self._read(client, step, came):
                return heard_in(came, trouble)
            if step.ready == 0 and isinstance(came[-1], ErrorResponse):
                client.send(SYNC)
                return heard_in(came, self._read(client, Step(SYNC, extended=True), came))
        return heard_in(came, "" if came[-1] == ReadyForQuery(b"I") else f"left with {came[-1]}")

    def _send(self, client: RawClient, data: bytes) -> None:
        """Whole or in pieces, together or one by one."""
        if self._random.random() < 0.6:
            client.send(data)
            return
        pause_s = self._random.choice((0.0, 0.001))
        for piece in cut(data, [self._random.randrange(len(data) + 1) for _ in range(PIECES_MAX)]):
            client.send(piece)
            time.sleep(pause_s)

    def _read(self, client: RawClient, step: Step, came: list[Message]) -> str:
        """Add what is due to what `came`; what went wrong, if anything."""
        ready = 0
        while True:
            news, ending = client.read(1, Message, ANSWER_S)
            if ending is not Ending.ENOUGH:
                return str(ending.value)
            came += news
            message = news[-1]
            if isinstance(message, CopyInResponse):
                # In copy-in mode a Sync is ignored: the one that was sent already, too.
                client.send(CopyDone().encode() + (SYNC if step.extended else b""))
            ready += isinstance(message, ReadyForQuery)
            if ready and ready == step.ready:
                return ""
            if not step.ready and isinstance(message, RowDescription | NoData | ErrorResponse):
                return ""


def heard_in(messages: Iterable[Message], trouble: str) -> Heard:
    """The errors among a client's messages, and the nodes that rows name."""
    errors: list[Outcome] = []
    nodes: list[str] = []
    place = -1
    for message in messages:
        if isinstance(message, ErrorResponse):
            errors.append(Outcome(message.field(b"C").decode(), message.field(b"M").decode()))
        elif isinstance(message, RowDescription):
            names = [column.name for column in message.columns]
            place = names.index(NODE.encode()) if NODE.encode() in names else -1
        elif isinstance(message, DataRow) and 0 <= place < len(message.values):
            nodes.append((message.values[place] or b"").decode())
    return Heard(tuple(errors), tuple(nodes), trouble)


def judge(conversation: Conversation, heard: Heard, log: Entries, primary: str) -> list[Finding]:
    """A finding for each statement of a conversation."""
    return [judge_one(one, conversation, heard, log, primary) for one in conversation.asked]


def judge_one(one: Asked, conversation: Conversation, heard: Heard, log: Entries, primary: str) -> Finding:
    """What became of one statement: where it ran, by the logs, and what its client was told."""
    ran, refused = log.ran.get(one.number, []), log.refused.get(one.number, [])
    finding = _with(one, conversation)
    in_recovery = [error for error in heard.errors if error.failed_in_recovery()]
    if in_recovery:
        return finding(Kind.MISROUTED, f"{in_recovery[0].sqlstate} {in_recovery[0].message}")
    if heard.trouble:
        return finding(Kind.DISPUTED, heard.trouble)
    if len(ran) > 1:
        return finding(Kind.MISROUTED, f"ran more than once: {', '.join(ran)}")
    # What cannot even be parsed may be refused anywhere.
    touched = set(ran) | (set() if conversation.form in PARSED_FIRST else set(refused))
    on_standby = bool(touched - {primary})
    if on_standby and one.where is Where.PRIMARY:
        return finding(Kind.MISROUTED, f"ran on {', '.join(touched)}")
    if len(conversation.asked) == 1 and set(heard.nodes) - set(ran):
        return finding(Kind.MISROUTED, f"ran on {', '.join(ran)}, and was answered by {', '.join(heard.nodes)}")
    errors = [f"{error.sqlstate} {error.message}" for error in heard.errors]
    if not ran and not one.statement.sql.strip("; "):
        return finding(Kind.KEPT, "")
    if refused or not ran:
        expected = errors and one.where is not Where.STANDBY
        return finding(Kind.FAILED if expected else Kind.DISPUTED, errors[0] if errors else "no node has run it")
    if on_standby:
        return finding(Kind.ROUTED, "")
    return finding(Kind.STAYED if one.where is Where.STANDBY else Kind.KEPT, "")


def _with(one: Asked, conversation: Conversation) -> Callable[[Kind, str], Finding]:
    """Findings show what was sent."""
    shown = one.statement._replace(sql=one.sql, group=f"{conversation.form.value}: {one.statement.group}")
    return lambda kind, harm: Finding(kind, shown, conversation.form.value, harm)


@contextmanager
def through(cluster: Sandbox, database: str, seed: int) -> Iterator[Through]:
    """Pointsman in front of the cluster, with one server for all on each node, and reads free to go to any standby."""
    with (
        TemporaryDirectory() as directory,
        journal(cluster, database) as log,
        pointsman(cluster, Path(directory), workers=1, default_pool_size=1, consistency="eventual") as endpoint,
        crowd(endpoint, database),
        Clients(cluster, endpoint, database) as clients,
    ):
        asking = Through(cluster, clients, log, seed)
        asking.wait_until_known(cluster.user)
        yield asking


def try_through(asking: Through, decide: Decide, count: int, seed: int, tick: Callable[[], None]) -> Tally:
    """Send `count` statements; `tick` is called after each.

    What `decide` keeps on the primary by itself is no news here: a standby is expected to get what it gives away.
    """

    def granted(statement: Statement) -> Statement:
        kept = statement.where is Where.STANDBY and not decide(statement.sql, statement.user)[0]
        return statement._replace(where=Where.EITHER) if kept else statement

    def findings() -> Iterator[Finding]:
        for form, statements in chosen(count, seed):
            for finding in asking.findings(form, [granted(statement) for statement in statements]):
                tick()
                yield finding

    return Tally(findings())
