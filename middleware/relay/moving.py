"""When a read-only transaction that was begun on a standby must leave it.

A client may say BEGIN READ ONLY, and go on with what only the primary can do for it. As long as nothing has run in the
transaction, nobody can tell where it was begun: it is begun again on the primary. And what follows its end in the same
string or pipeline is not part of it: the whole goes to where that belongs.
"""

from collections.abc import Sequence
from typing import Final

from parser.facts import END, SET_TRANSACTION, StatementFacts, TransactionFacts
from routing.router import Router, Target

ELSEWHERE: Final = frozenset({"ListenStmt", "UnlistenStmt", "NotifyStmt", "LockStmt"})
"""What a read-only transaction may do on a primary, and no transaction on a standby."""


def leave_standby(facts: Sequence[StatementFacts], untouched: TransactionFacts | None, router: Router) -> bytes | None:
    """Whether a batch must not run in the transaction on the standby: None to stay, else what begins it elsewhere.

    `untouched` is the transaction that nothing has run in since its BEGIN. Where the batch itself ends the transaction,
    there is nothing to begin again: b"".
    """
    ended = False
    for one in facts:
        if ended and one.transaction is None:
            return b""
        ended = ended or (one.transaction is not None and one.transaction.kind == END)
        if one.ends_within:
            return b""
    if untouched is not None and any(_needs_primary(one, router) for one in facts):
        isolation = f" ISOLATION LEVEL {untouched.isolation.upper()}" if untouched.isolation else ""
        return f"BEGIN READ ONLY{isolation}".encode()
    return None


def _needs_primary(facts: StatementFacts, router: Router) -> bool:
    if facts.transaction is not None:
        return facts.transaction.kind == SET_TRANSACTION
    if facts.write_reason:
        # It fails in a read-only transaction anywhere, or it is one of those a standby can do (a cursor, SET LOCAL).
        return facts.kind in ELSEWHERE
    return router.route(facts).target is Target.PRIMARY
