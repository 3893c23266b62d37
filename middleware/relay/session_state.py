"""The session state of one client: what it may have changed, what it has, and what keeps it on its server.

Text only tells what to ask about. Once a transaction is over in which a statement had effects
(parser/state_effects.py), PostgreSQL is asked what has come of them, and the client's next messages wait for the
answer. So COMMIT, ROLLBACK, savepoints, errors, computed names and blocks of code come out as they are:

    settings, roles    the session's values: they become the client's, and each server that serves it is given them
    prepared           SQL's PREPARE: made anew on the server that a statement finds it missing on
    listen, locks, temporary objects, cursors WITH HOLD
                       whether there is any: as long as there is, the client is *pinned*, and keeps its server
    libraries, seed    cannot be asked for, and not be undone: pinned to the end, and then the server is closed

ClientConnection asks before it sends a batch, tells what it sends, and asks again when all is answered; this decides.
"""

from typing import Final

from middleware.config import RoutePolicy
from middleware.errors import NotSupported, PointsmanError
from middleware.relay.state_warnings import ALLOW, PIN, REJECT, StateRejected, StateWarnings
from middleware.session.batch import Batch, encoded
from middleware.session.expected import HIDDEN_TRY
from middleware.session.inspection import ASKED, Findings, question
from middleware.session.own_names import OwnNames
from middleware.session.parameters import ROLES as ROLE_SETTINGS
from middleware.session.parameters import Interned, StartupParameters, set_query
from middleware.session.prepared import ClientStatements
from middleware.session.server import IDLE, IN_FAILED_TRANSACTION, ServerSession
from middleware.wire.build import message
from middleware.wire.codes import PARAMETER_STATUS, QUERY
from parser.facts import BEGIN, SET_TRANSACTION, StatementFacts
from parser.session_state import (
    CURSORS,
    LEAVES,
    LIBRARIES,
    LISTEN,
    PREPARED,
    ROLES,
    SEED,
    SEQUENCES,
    SETTINGS,
    TEMPORARY,
    UNDOES,
    UNKNOWN,
    USES,
    StateEffect,
)

FOR_GOOD: Final = frozenset({LIBRARIES, SEED})
"""What nothing takes back: its server is closed in the end."""

SESSION_MODE: Final = "session"
STATEMENT_MODE: Final = "statement"
SESSION_POOLING: Final = "session pooling"
"""What keeps a client on its server that has it to the end."""

CALLED: Final = StateEffect(UNKNOWN, LEAVES, "a function", any_name=True)
"""One whose body says so: see routing/state_functions.py."""

ROLLED_BACK: Final = frozenset({LISTEN, TEMPORARY, CURSORS})
"""What ROLLBACK takes back of what can be asked for."""

NO_TRANSACTIONS: Final = "transaction blocks are not allowed in statement pooling"

NOT_SET: Final = frozenset({b"is_superuser", b"in_hot_standby", b"server_version", b"server_encoding"})
"""Parameters that are reported, and that no client changes by itself."""


class SessionState:
    """One client's."""

    __slots__ = (
        "_actions",
        "_all",
        "_ask",
        "_base",
        "_doubt",
        "_from_scratch",
        "_given",
        "_interned",
        "_is_set",
        "_names",
        "_own_names",
        "_put_back",
        "_several",
        "_statement_mode",
        "_touched",
        "_unrepaired",
        "_unseen",
        "_user",
        "_words",
        "asking",
        "parameters",
        "pinned",
        "warnings",
    )

    def __init__(
        self,
        policy: RoutePolicy,
        parameters: StartupParameters,
        user: bytes,
        statements: ClientStatements,
        interned: Interned,
        warnings: StateWarnings,
    ) -> None:
        self._actions = dict(policy.state)
        self._base: Final = dict(parameters.values)
        """The values of its startup message: what RESET goes back to."""
        self._user: Final = user
        self._own_names: Final = OwnNames(statements)
        self._interned: Final = interned
        self.warnings: Final = warnings
        self.parameters = parameters
        """The settings that a server must have to serve it."""
        self.pinned: Final[set[str]] = set()
        """The classes that keep it on its server."""
        if policy.mode == SESSION_MODE:
            self.pinned.add(SESSION_POOLING)
        self._statement_mode = policy.mode == STATEMENT_MODE
        self.asking = False
        """PostgreSQL has been asked, and has not answered yet."""
        self._is_set: Final[set[bytes]] = set()
        """The settings of its startup message that it has SET since."""
        self._several = False
        """The batch that is being noted holds several statements."""
        # What is to be asked once all is answered.
        self._touched = False
        self._names: Final[set[bytes]] = set()
        self._put_back: Final[set[bytes]] = set()
        """The settings of its startup message that it has RESET."""
        self._unrepaired: Final[set[bytes]] = set()
        """Those whose values nothing has put back: see _behind()."""
        self._given: Final[set[bytes]] = set()
        """Those of them that were SET, and not only RESET: a custom one may be set to nothing."""
        self._all = False
        self._from_scratch = False
        """All settings were put back before those that are asked for."""
        self._doubt = False
        """Something has failed, or was part of a transaction: the settings of its text may have come to nothing."""
        self._ask: Final[set[str]] = set()
        self._unseen = False
        """What it has done since it has its server cannot be seen whole: the server is reset before others get it."""
        self._words: Final[dict[str, StateEffect]] = {}
        """What has touched each class lately."""

    def use(self, policy: RoutePolicy) -> None:
        """Another policy holds, for what is left behind from now on; with SESSION_MODE also for what was: whoever has
        not been in session pooling before is in it from the next server on."""
        self._actions = dict(policy.state)
        self._statement_mode = policy.mode == STATEMENT_MODE
        if policy.mode == SESSION_MODE:
            self.pinned.add(SESSION_POOLING)
        else:
            self.pinned.discard(SESSION_POOLING)

    # Before a batch is sent

    def refuses(self, batch: Batch) -> PointsmanError | None:
        """What the settings have against it, if anything."""
        for facts in batch.facts:
            if self._statement_mode and facts.transaction is not None and facts.transaction.kind == BEGIN:
                return NotSupported(NO_TRANSACTIONS)
            for effect in facts.effects:
                if effect.action != UNDOES and self._actions[effect.state] == REJECT:
                    if effect.state == PREPARED and effect.action == USES:
                        continue
                    return StateRejected(effect)
        return None

    def must_precede(self, batch: Batch, peer: ServerSession) -> bool:
        """Whether something of _before() cannot run in a transaction that the batch may be about to set up."""
        first = batch.facts[0] if batch.facts else None
        if first is None or not (first.kind == "Several" or sets_transaction(first)):
            return False
        return self._own_names.lacks(batch, peer)

    def must_wait(self, batch: Batch, peer: ServerSession) -> bool:
        """Whether what a batch does to it is clear only when all before it is answered."""
        if not peer.expected:
            return False
        return peer.watch_deallocate or bool(batch.sql_names) or any(facts.effects for facts in batch.facts)

    # When it is sent

    def sends(self, batch: Batch, peer: ServerSession, within: bool, fresh: bool) -> tuple[bytes, bytes]:
        """A batch with something special in it is about to be sent: what goes in front of it, and the SQL behind it.

        `within`: a part of it was sent already. `fresh`: nothing of its client's has run on the server since it was
        lent. The answers to what is in front of it are booked.
        """
        front = self._before(batch, peer, within, fresh)
        behind = b"" if peer.status == IN_FAILED_TRANSACTION else self._behind(batch)
        self._note_batch(batch, peer)
        return front, behind

    def _before(self, batch: Batch, peer: ServerSession, within: bool, fresh: bool) -> bytes:
        """What has to go in front of it, for it to find what it needs and nothing of others'."""
        out = self._own_names.put_in_place(batch, peer, within)
        if fresh and not within and not self.pinned and any(uses_sequences(facts) for facts in batch.facts):
            peer.expected.append(HIDDEN_TRY)
            peer.unnamed_dropped()
            out += message(QUERY, b"DISCARD SEQUENCES\0")
        return out

    def _behind(self, batch: Batch) -> bytes:
        """The SQL that has to run behind it: RESET goes back to the values of the startup message."""
        if not self._base or compound(batch):
            # What is left of it once all of it has run, PostgreSQL tells when it is asked.
            return b""
        parts: list[bytes] = []
        for facts in batch.facts:
            for effect in facts.effects:
                if effect.action == UNDOES and effect.state in (SETTINGS, ROLES):
                    names = encoded(effect.names)
                    if effect.any_name:
                        names = [name for name in self._base if name not in ROLE_SETTINGS]
                    values = [(name, self._base[name]) for name in names if name in self._base]
                    if values:
                        parts.append(set_query(values, effect.local))
        return b";".join(parts)

    def _note_batch(self, batch: Batch, peer: ServerSession) -> None:
        self._several = compound(batch)
        self._doubt = self._doubt or peer.status != IDLE or self._several
        for facts in batch.facts:
            self._doubt = self._doubt or facts.transaction is not None
            if facts.effects:
                self._note_all(facts, peer)
        self._names.update(batch.bound_names)
        self._given.update(batch.bound_names)

    def _note_all(self, facts: StatementFacts, peer: ServerSession) -> None:
        prepares = any(effect.state == PREPARED and effect.action == LEAVES for effect in facts.effects)
        for effect in facts.effects:
            # What PREPARE wraps is for EXECUTE to do.
            if not prepares or effect.state == PREPARED or facts.kind != "PrepareStmt":
                self._note(effect, facts, peer)

    def _note(self, effect: StateEffect, facts: StatementFacts, peer: ServerSession) -> None:
        if effect.local or (effect.statement == "DISCARD ALL" and (peer.status != IDLE or facts.kind == "Several")):
            # In a transaction, or a string of several, DISCARD ALL is refused.
            return
        state = effect.state
        action = self._actions[state]
        self._touched = True
        if effect.action == LEAVES:
            peer.dirty = effect.statement
        if effect.action == LEAVES or (effect.action == USES and state == SEQUENCES):
            self._words[state] = effect
            if not tells_later(effect, action, peer):
                self.warnings.note(effect, action, facts)
            if action == ALLOW:
                self._unseen = True
                return
        if state in (SETTINGS, ROLES):
            self._note_settings(effect)
        elif state == PREPARED:
            if effect.action != USES:
                self._own_names.note(effect, facts)
            else:
                for name in encoded(effect.names):
                    for inner in self._own_names.effects_of(name):
                        self._note(inner, facts, peer)
        elif state == UNKNOWN:
            self._note_unknown(effect, action)
        elif state == SEQUENCES:
            if effect.action == UNDOES:
                self.pinned.discard(SEQUENCES)
            elif action == PIN:
                self.pinned.add(SEQUENCES)
        elif state in FOR_GOOD:
            self.pinned.add(state)
            peer.uncertain = True
        elif effect.action == LEAVES or state in self.pinned:
            self._ask.add(state)

    def _note_settings(self, effect: StateEffect) -> None:
        if effect.action == UNDOES and effect.any_name:
            # All but one's roles.
            self._from_scratch = True
            self._names.clear()
            self._put_back.update(name for name in self._base if name not in ROLE_SETTINGS)
            return
        names = encoded(effect.names)
        self._names.update(names)
        if effect.action == UNDOES:
            self._all = True
            self._put_back.update(names)
            if self._several:
                self._unrepaired.update(names)
        else:
            self._put_back.difference_update(names)
            self._unrepaired.difference_update(names)
            self._given.update(names)
            self._is_set.update(name for name in names if name in self._base)
        if effect.any_name:
            self._all = self._unseen = True
            self._put_back.clear()
            self._unrepaired.clear()
            self._is_set.update(self._base)

    def _note_unknown(self, effect: StateEffect, action: str) -> None:
        if effect.action == UNDOES:
            self.pinned.discard(UNKNOWN)
            return
        self._names.update(encoded(effect.names))
        self._given.update(encoded(effect.names))
        self._is_set.update(self._base)
        self._ask.update(ASKED)
        self._ask.add(PREPARED)
        self._all = self._unseen = True
        if action == PIN:
            self.pinned.add(UNKNOWN)

    def calls(self, peer: ServerSession) -> None:
        """What is about to be sent calls a function that may leave something behind."""
        self._touched = True
        self._words[UNKNOWN] = CALLED
        peer.dirty = CALLED.statement
        self._all = True
        self._ask.update(ASKED)
        self._is_set.update(self._base)

    def failed(self) -> None:
        """The server has answered something with an error."""
        self._doubt = True

    def statements_dropped(self) -> None:
        """DEALLOCATE ALL or DISCARD ALL was carried out."""
        self._own_names.cleared()
        self.pinned.discard(PREPARED)

    # When all is answered

    def at_ease(self, peer: ServerSession) -> bool:
        """Nothing was touched, nothing is asked, nothing keeps its server: so it is with most."""
        return not (self._touched or self.asking or self.pinned or peer.reported_before)

    def touched(self, peer: ServerSession) -> bool:
        """Whether anything was sent, or reported, that there is to find out about."""
        return self._touched or bool(peer.reported_before)

    def lost_with_server(self, unknown: bool) -> bool:
        """Whether something of it is gone when its server is, beyond what a ROLLBACK takes back as well.

        `unknown`: what was begun there may have been committed.
        """
        if self.pinned or self.asking or self._unseen or self._own_names.any_open():
            return True
        return self._touched and (unknown or not self._ask <= ROLLED_BACK)

    def lost(self, peer: ServerSession) -> bytes:
        """Its server is gone, and has taken back what was begun there; returns what its client has to hear of that."""
        told = [
            message(PARAMETER_STATUS, name + b"\0" + before + b"\0")
            for name, before in peer.reported_before.items()
            if peer.reported.get(name) != before
        ]
        self._forget_questions()
        self._words.clear()
        return b"".join(told)

    def settle(self, peer: ServerSession) -> bytes:
        """What PostgreSQL is to be asked now that no transaction is open; b"" for nothing."""
        if peer.reported_before:
            self._reported(peer)
        prepares = self._own_names.any_open()
        if not (self._names or self._all or self._from_scratch or self._ask or prepares):
            self._doubt = self._touched = False
            return b""
        everything = self._all or (self._doubt and bool(self._names or self._from_scratch))
        if everything:
            # By name only what no list has: custom settings, and roles.
            self._names.update(name for name, _ in (*self.parameters.values, *peer.parameters.values))
            unlisted = [name for name in self._names if b"." in name or name in ROLE_SETTINGS]
            self._names.clear()
            self._names.update(unlisted)
        self._all = everything
        classes = sorted(self._ask)
        if prepares and PREPARED not in self._ask:
            classes.append(PREPARED)
        sql = question(classes, sorted(self._names), everything)
        if sql:
            self.asking = True
        else:
            self.learn(Findings(), peer)
        return sql

    def _reported(self, peer: ServerSession) -> None:
        """Settings have changed that the server reports, by whatever means."""
        for name, before in peer.reported_before.items():
            known = name.lower()
            if peer.reported.get(name) != before and known not in NOT_SET and not self._from_scratch:
                self._names.add(known)
                if known in self._base:
                    self._is_set.add(known)
        peer.reported_before.clear()

    def learn(self, findings: Findings | None, peer: ServerSession) -> None:
        """PostgreSQL has answered; None: it could not."""
        self.asking = False
        if findings is None:
            # Nothing is known, so the client keeps what it has.
            self.pinned.add(UNKNOWN)
        else:
            if self._names or self._all or self._from_scratch:
                self._learn_settings(findings.settings, peer)
            if self._own_names.any_open() or PREPARED in self._ask:
                self._learn_prepared(findings, peer)
            for state in self._ask:
                if state in findings.found:
                    self._found(state)
                else:
                    self.pinned.discard(state)
        self._forget_questions()
        if not self.pinned and not self._unseen:
            peer.dirty = ""

    def _forget_questions(self) -> None:
        """There is nothing to be asked."""
        self._names.clear()
        self._given.clear()
        self._put_back.clear()
        self._unrepaired.clear()
        self._ask.clear()
        self._all = self._from_scratch = self._doubt = self._touched = False

    def _found(self, state: str) -> None:
        """There is something of a class."""
        action = self._actions[state]
        effect = self._words.get(state)
        if effect is None:
            # A block of code has left it there.
            unknown = self._words.get(UNKNOWN)
            self._words[state] = effect = StateEffect(state, LEAVES, "code" if unknown is None else unknown.statement)
            self.warnings.note(effect, action, None)
        if action == ALLOW:
            self._unseen = True
        else:
            self.pinned.add(state)

    def _learn_settings(self, values: dict[bytes, bytes], peer: ServerSession) -> None:
        """What the server has now, and what the client wants of any server."""
        before = dict(peer.parameters.values)
        known = self.parameters
        if self._all:
            have: dict[bytes, bytes] = {}
        elif self._from_scratch:
            have = {name: before[name] for name in ROLE_SETTINGS if name in before}
            have.update((name, value) for name, value in self._base.items() if name not in ROLE_SETTINGS)
        else:
            have = before
        for name in self._names:
            have.pop(name, None)
        have.update(values)
        for name in [name for name, value in have.items() if self._means_nothing(name, value)]:
            del have[name]
        want = dict(have)
        if not self._doubt:
            self._is_set.difference_update(self._put_back)
        for name, value in self._base.items():
            if name not in self._is_set:
                if name in have:
                    # In PostgreSQL's spelling: the client's own makes it one of the settings known already.
                    have[name] = value
                want[name] = value
            elif name not in have and (name not in ROLE_SETTINGS or name in self._unrepaired):
                want[name] = value
        peer.parameters = self._interned.of(tuple(sorted(have.items())))
        self.parameters = self._interned.of(tuple(sorted(want.items())))
        self._tell_settings({name for name, value in want.items() if (name, value) not in known.values})
        changed = {name for name, value in want.items() if self._base.get(name) != value}
        self._pin_where_told(ROLES, not changed.isdisjoint(ROLE_SETTINGS))
        self._pin_where_told(SETTINGS, not changed.issubset(ROLE_SETTINGS))

    def _tell_settings(self, names: set[bytes]) -> None:
        """Of settings whose names no text has told, now that they are known."""
        effect = self._words.get(SETTINGS) or self._words.get(UNKNOWN)
        if names and effect is not None and effect.any_name:
            told = tuple(name.decode(errors="replace") for name in sorted(names))
            self.warnings.note(StateEffect(SETTINGS, LEAVES, effect.statement, told), self._actions[SETTINGS], None)

    def _means_nothing(self, name: bytes, value: bytes) -> bool:
        """A value that says that it is not set."""
        if name == b"role":
            return value == b"none"
        if name == b"session_authorization":
            return value == self._user
        return not value and b"." in name and name not in self._given and (name, b"") not in self.parameters.values

    def _learn_prepared(self, findings: Findings, peer: ServerSession) -> None:
        """Which names stand for what."""
        clear = self._own_names.learn(findings, PREPARED in self._ask, peer)
        sql = self._own_names.statements.sql
        self._pin_where_told(PREPARED, bool(sql))
        if not clear:
            self.pinned.add(PREPARED)
        if sql and not self.warnings.has_told(PREPARED):
            self.warnings.note(StateEffect(PREPARED, LEAVES, "PREPARE"), self._actions[PREPARED], None)

    def _pin_where_told(self, state: str, has_some: bool) -> None:
        if has_some and self._actions[state] == PIN:
            self.pinned.add(state)
        else:
            self.pinned.discard(state)

    def returned(self) -> None:
        """Its server was given back."""
        self._unseen = False
        self._words.clear()

    def why(self) -> str:
        """What keeps it on its server, in words."""
        words = [self._words[state].statement for state in sorted(self.pinned) if state in self._words]
        return ", ".join(words) or ", ".join(sorted(self.pinned))


def compound(batch: Batch) -> bool:
    """Whether it holds several statements."""
    return len(batch.facts) > 1 or (bool(batch.facts) and batch.facts[0].kind == "Several")


def tells_later(effect: StateEffect, action: str, peer: ServerSession) -> bool:
    """Whether the client is told once it is known what there is.

    Of settings whose names are computed; and of a PREPARE in a transaction: pg_dump has many, and does not commit.
    """
    if action == ALLOW:
        return False
    return (effect.state == SETTINGS and effect.any_name) or (effect.state == PREPARED and peer.status != IDLE)


def sets_transaction(facts: StatementFacts) -> bool:
    """Whether it is SET TRANSACTION, which nothing may precede."""
    return facts.transaction is not None and facts.transaction.kind == SET_TRANSACTION


def uses_sequences(facts: StatementFacts) -> bool:
    """Whether it asks for what sequence functions have left on its session."""
    return any(effect.state == SEQUENCES and effect.action == USES for effect in facts.effects)
