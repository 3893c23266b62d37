"""Prepared statements under their client's own names, for SQL to find them.

PostgreSQL has one set of names for what Parse and what PREPARE have made. Servers have a client's Parse under names of
ours (see prepared.py), which SQL does not know; and a PREPARE that the next server has never seen. So what a batch
names in SQL is put in place in front of it, under the client's name for it, and what others have there is closed.

From PREPARE and DEALLOCATE on such a name is *open*: what it means hangs on how they and their transaction end. While
it is, messages of the protocol that name it go to the server as they are, which knows; and once all is over PostgreSQL
is asked, see inspection.py.
"""

from collections.abc import Container
from typing import Final

from middleware.session.batch import EDIT_CLOSE, EDIT_PARSE, Batch, Edit, encoded
from middleware.session.expected import SYNC_UNSEEN, Expect
from middleware.session.inspection import Findings
from middleware.session.prepared import ClientStatements, Statement
from middleware.session.server import IDLE, IN_FAILED_TRANSACTION, ServerSession
from middleware.wire.build import SYNC_MESSAGE, message
from middleware.wire.codes import CLOSE, PARSE, QUERY
from parser.analyse import analyse, prepare_in
from parser.facts import StatementFacts
from parser.session_state import LEAVES, PREPARED, UNDOES, USES, StateEffect

NOTHING: Final = b"\0\0\0"
"""The body of a Parse message for an empty statement without parameters: it stands in where only the name counts."""


class OwnNames:
    """One client's."""

    __slots__ = ("_effects", "_missing", "statements")

    def __init__(self, statements: ClientStatements) -> None:
        self.statements: Final = statements
        self._missing: Final[set[bytes]] = set()
        """Open names that could not be put in place: that the server lacks them says nothing."""
        self._effects: Final[dict[bytes, tuple[StateEffect, ...]]] = {}
        """What the statements do that it has prepared in SQL."""

    # Before a batch is sent

    def put_in_place(self, batch: Batch, peer: ServerSession, within: bool) -> bytes:
        """What has the server know what the batch names in SQL, and nothing of others' by those names.

        To be written in front of it; its answers are booked. `within`: a part of the batch was sent already.
        """
        wanted = self._wanted(batch, peer)
        meanings = {name: self._meaning(name, batch) for name in wanted if name not in self.statements.open}
        failed = peer.status == IN_FAILED_TRANSACTION
        self._missing.difference_update(meanings)
        out: list[bytes] = []
        for name, mine in meanings.items():
            theirs = peer.prepared.get(name)
            if theirs is not None and theirs is not mine and not (theirs is NOTHING and mine and not wanted[name]):
                self._close(name, peer, out)
        self._make_room(len(meanings), wanted, peer, out)
        lacking = {name: mine for name, mine in meanings.items() if mine is not None and name not in peer.prepared}
        for name, mine in lacking.items():
            if isinstance(mine, Statement):
                if failed and wanted[name]:
                    self._missing.add(name)
                self._parse(name, None if failed or not wanted[name] else mine, peer, out)
        if out and not within:
            peer.expected.append(SYNC_UNSEEN)
            out.append(SYNC_MESSAGE)
        for name, mine in lacking.items():
            if isinstance(mine, bytes):
                if within or failed:
                    self._missing.add(name)
                else:
                    self._prepare(name, mine, peer, out)
        return b"".join(out)

    def _wanted(self, batch: Batch, peer: ServerSession) -> dict[bytes, bool]:
        """What it names in SQL, and whether more than the name has to be there."""
        wanted = dict.fromkeys(batch.sql_names, True)
        for facts in batch.facts:
            for effect in facts.effects:
                if effect.state != PREPARED:
                    continue
                if effect.any_name and effect.action == USES:
                    for name in sorted(self.statements.sql.keys() | peer.prepared.keys()):
                        wanted.setdefault(name, True)
                for name in encoded(effect.names):
                    # DEALLOCATE wants the name alone, and must not fail where its statement no longer can be parsed.
                    wanted[name] = wanted.get(name, False) or effect.action != UNDOES or peer.status != IDLE
        return wanted

    def _meaning(self, name: bytes, batch: Batch) -> Statement | bytes | None:
        """What a name stood for in front of the batch: a Parse, the text of a PREPARE, or nothing."""
        for op in batch.ops:
            if isinstance(op, Edit) and op.name == name:
                if op.kind == EDIT_PARSE:
                    return None
                if op.kind == EDIT_CLOSE:
                    return op.statement if op.sql is None else op.sql
        sql = self.statements.sql.get(name)
        return self.statements.named.get(name) if sql is None else sql

    def _make_room(self, more: int, wanted: Container[bytes], peer: ServerSession, out: list[bytes]) -> None:
        """Close the oldest of them where there would be too many."""
        for name in list(peer.prepared):
            if len(peer.prepared) + more <= peer.statements.size_max:
                return
            if name not in wanted and name not in self.statements.open:
                self._close(name, peer, out)

    def _parse(self, name: bytes, mine: Statement | None, peer: ServerSession, out: list[bytes]) -> None:
        """Have the server know a statement of the protocol, or an empty one in its place."""
        peer.prepared[name] = NOTHING if mine is None else mine
        peer.expected.append(Expect(b"", own=name))
        out.append(message(PARSE, name + b"\0" + (NOTHING if mine is None else mine.body)))

    def _prepare(self, name: bytes, text: bytes, peer: ServerSession, out: list[bytes]) -> None:
        """Have the server know what was prepared in SQL."""
        peer.prepared[name] = text
        peer.expected.append(Expect(hidden=True, own=name))
        peer.unnamed_dropped()
        out.append(message(QUERY, text + b"\0"))

    def _close(self, name: bytes, peer: ServerSession, out: list[bytes]) -> None:
        """Unlike DEALLOCATE this cannot fail, and takes no snapshot."""
        peer.expected.append(Expect(b"", own=name, before=peer.prepared.pop(name)))
        out.append(message(CLOSE, b"S" + name + b"\0"))

    def lacks(self, batch: Batch, peer: ServerSession) -> bool:
        """Whether something must be PREPAREd in front of it."""
        names = {name for facts in batch.facts for effect in facts.effects for name in encoded(effect.names)}
        sql = self.statements.sql
        return any(peer.prepared.get(name) is not sql[name] for name in names if name in sql)

    # When it is sent

    def note(self, effect: StateEffect, facts: StatementFacts) -> None:
        """A statement is about to be sent that prepares, or drops."""
        for name in encoded(effect.names):
            self.statements.begin_open(name)
            if effect.action == LEAVES:
                # Until it is known which PREPARE has succeeded, it may be any.
                self._effects[name] = (*self._effects.get(name, ()), *wrapped(facts))

    def effects_of(self, name: bytes) -> tuple[StateEffect, ...]:
        """What the statement does, or may do."""
        statement = self.statements.named.get(name)
        found = self._effects.get(name, ())
        return found if statement is None else (*found, *wrapped(statement.facts))

    def any_open(self) -> bool:
        """Whether there is something to ask about."""
        return bool(self.statements.open)

    # When PostgreSQL was asked

    def learn(self, findings: Findings, everything: bool, peer: ServerSession) -> bool:
        """What the open names stand for now. With `everything` any name may have become one.

        False where that cannot be told: a text of several statements that we cannot take apart.
        """
        statements = self.statements
        names = set(statements.open)
        if everything:
            # What the server had of other clients is not this one's.
            names.update(name for name in findings.prepared if name not in peer.prepared)
            names.update(name for name, text in statements.sql.items() if peer.prepared.get(name) is text)
        clear = True
        for name in names:
            whole, parsed = findings.prepared.get(name), findings.parsed.get(name)
            if whole is not None:
                # The string that held the PREPARE may have held more, which is not to be run again.
                text = prepare_in(whole, name)
                if text is None:
                    clear = False
                else:
                    self._learn_sql(name, text, peer)
            elif parsed is not None:
                clear = self._learn_parsed(name, parsed, peer) and clear
            elif name not in self._missing:
                statements.forget(name)
                self._forget_sql(name)
                peer.prepared.pop(name, None)
        statements.open.clear()
        self._missing.clear()
        return clear

    def _learn_sql(self, name: bytes, text: bytes, peer: ServerSession) -> None:
        sql = self.statements.sql
        self.statements.forget(name)
        if sql.get(name) != text:
            sql[name] = text
        peer.prepared[name] = sql[name]
        self._effects[name] = wrapped(analyse(text.decode()))

    def _learn_parsed(self, name: bytes, text: bytes, peer: ServerSession) -> bool:
        """There is a statement of the protocol by the client's own name, which has that text."""
        statements = self.statements
        there = peer.prepared.get(name)
        if there is NOTHING and not text:
            # DEALLOCATE was not carried out.
            return True
        candidates = list(statements.open.get(name, ()))
        if isinstance(there, Statement):
            candidates.insert(0, there)
        for statement in reversed(candidates):
            if statement.body.startswith(text + b"\0"):
                self._forget_sql(name)
                statements.keep(name, statement)
                peer.prepared[name] = statement
                return True
        return False

    def _forget_sql(self, name: bytes) -> None:
        self.statements.sql.pop(name, None)
        self._effects.pop(name, None)

    def cleared(self) -> None:
        """DEALLOCATE ALL or DISCARD ALL was carried out."""
        self.statements.clear()
        for name in [name for name in self._effects if name not in self.statements.open]:
            del self._effects[name]


def wrapped(facts: StatementFacts) -> tuple[StateEffect, ...]:
    """What the statements do that PREPARE wraps, or Parse."""
    return tuple(effect for effect in facts.effects if effect.state != PREPARED)
