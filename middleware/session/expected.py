"""What is due from a server: the entries of ServerSession.expected, in the order in which it answers.

Each stands for a reply, or for a whole exchange, that means something to us:

    SYNC          a ReadyForQuery that its client is waiting for: after a Query, a FunctionCall or a Sync
    SYNC_UNSEEN   a ReadyForQuery of our own making, behind replies that the client is to see
    HIDDEN        a whole exchange of our own (settings, reset, check), up to and with its ReadyForQuery
    HIDDEN_TRY    the same of one that may fail; so may one that says which of the client's own names it is about
    HIDDEN_LAST   the same behind a batch of the client's whose own ReadyForQuery is SYNC_UNSEEN: this one's is shown
                  in its place, and its ParameterStatus messages are
    HIDDEN_ASK    the same of one whose rows are kept in `answer`
    HIDDEN_FAILS  the same of one that is to fail, and its transaction with it
    PASS          a ParseComplete or CloseComplete that belongs to the client
    MARKER        the CloseComplete that proves that the server is not skipping to Sync
    UNNAMED       the answer to our putting the client's unnamed statement in place
    Expect        a ParseComplete or CloseComplete that is left out, shown as another, or undone when it does not come
"""

from typing import Final

from middleware.session.prepared import ClientStatements, Statement


class Expect:
    """A ParseComplete or CloseComplete due from the server, and how to take back what was booked for it."""

    __slots__ = (
        "before",
        "closes",
        "hidden",
        "name",
        "on_server",
        "own",
        "owner",
        "previous",
        "reply",
        "sql",
        "unnamed",
    )

    def __init__(
        self,
        reply: bytes | None = None,
        on_server: Statement | None = None,
        owner: ClientStatements | None = None,
        name: bytes = b"",
        previous: Statement | None = None,
        hidden: bool = False,
        sql: bytes | None = None,
        closes: Statement | None = None,
        own: bytes = b"",
        before: object = None,
        unnamed: bytes | None = None,
    ) -> None:
        self.reply: Final = reply
        """What the client gets for it: None, the reply itself; no bytes, nothing."""
        self.on_server: Final = on_server
        """The statement that the server has if the reply comes, and has not if it does not."""
        self.closes: Final = closes
        """The one that it may have still if the reply does not come."""
        self.own: Final = own
        """A name in the server's `prepared`, that means `before` if the reply does not come."""
        self.before: Final = before
        self.owner: Final = owner
        self.name: Final = name
        self.previous: Final = previous
        """What `name` meant to `owner` before, to be restored if the reply does not come."""
        self.sql: Final = sql
        """The same where it was prepared in SQL."""
        self.unnamed: Final = unnamed
        """The body of a Parse of `owner`'s unnamed statement."""
        self.hidden: Final = hidden
        """It stands for an exchange of our own."""


SYNC: Final = Expect()
SYNC_UNSEEN: Final = Expect()
HIDDEN: Final = Expect(hidden=True)
HIDDEN_TRY: Final = Expect(hidden=True)
HIDDEN_LAST: Final = Expect(hidden=True)
HIDDEN_ASK: Final = Expect(hidden=True)
HIDDEN_FAILS: Final = Expect(hidden=True)
PASS: Final = Expect()
MARKER: Final = Expect(b"")
UNNAMED: Final = Expect(b"")
