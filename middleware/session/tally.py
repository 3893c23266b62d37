"""What has gone between the clients of one database and rule and one node: counted where it passes, and timed.

Rules, those of PgBouncer's SHOW STATS unless it says otherwise here:

    query         one ReadyForQuery that a client has got or was owed: a Query, a FunctionCall, or all extended-query
                  messages up to a Sync, however many statements are in it. PgBouncer counts those once that a client
                  sends before the first of them was answered; here each counts. It is counted when it is answered: with
                  an error, too (canceled, or refused because its transaction has failed). Of a server that was lost,
                  what it owed its client counts; but a read that is sent again to another server counts there alone.
    query time    from its being sent until it was answered; with others before it, from when those were. Answers that
                  arrive together: the first has the time, the others none. So the sum is the time in which clients
                  waited for servers that were at work.
    transaction   one ReadyForQuery that tells of no open transaction: BEGIN to COMMIT is one, and each query outside is
                  one. One that its client left open, or whose server was lost, counts; one that has moved to another
                  node counts where it ended, and its time where it was spent.
    assignment    a server lent to a client. A client that is pinned to its server is lent it once.
    wait          from when what a client has sent might have gone, until it had a server: in the queue of a pool, for a
                  fresh standby, or for a primary. Who was given none has not waited, by this.
    parses, binds Parse and Bind messages of named statements: what clients have sent, and what servers were sent.
    bytes         of messages that were sent on to a server or answered here, and of what came back; not of logins.
    errors        ErrorResponses that clients were sent. Notices are none.

What no server was needed for (an answer from the query cache, an error of ours, a Sync that came alone) counts for node
"", and takes no time.
"""

from typing import Final

from middleware.reports import BUCKETS_S, Histogram

BUCKETS: Final[list[float]] = list(BUCKETS_S)


class Timing:
    """How long something took, each time."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts: Final[list[int]] = [0] * (len(BUCKETS_S) + 1)
        """By BUCKETS_S, each bucket for itself."""
        self.sum_s = 0.0

    def observe(self, took_s: float) -> None:
        """It took so long."""
        index = 0
        # What is common is in one of the first: a search by halves would look at more.
        for bound in BUCKETS:
            if took_s <= bound:
                break
            index += 1
        self.counts[index] += 1
        self.sum_s += took_s

    def add(self, other: "Timing") -> None:
        """What another one has seen, too."""
        for index, count in enumerate(other.counts):
            self.counts[index] += count
        self.sum_s += other.sum_s

    def histogram(self) -> Histogram:
        """As it is now."""
        return Histogram(tuple(self.counts), self.sum_s)


class Timings:
    """Those of the clients of one rule at one node."""

    __slots__ = ("checkout", "query", "wait")

    def __init__(self) -> None:
        self.query: Final = Timing()
        self.wait: Final = Timing()
        self.checkout: Final = Timing()


class Tally:
    """See above."""

    __slots__ = (
        "assignments",
        "binds",
        "client_parses",
        "errors",
        "queries",
        "query_s",
        "received_bytes",
        "sent_bytes",
        "server_parses",
        "timings",
        "wait_s",
        "xact_s",
        "xacts",
    )

    def __init__(self, timings: Timings) -> None:
        self.timings: Final = timings
        self.assignments = 0
        self.xacts = 0
        self.queries = 0
        self.received_bytes = 0
        self.sent_bytes = 0
        self.xact_s = 0.0
        self.query_s = 0.0
        self.wait_s = 0.0
        self.client_parses = 0
        self.server_parses = 0
        self.binds = 0
        self.errors = 0

    def assigned(self, waited_s: float) -> None:
        """A server was lent, after so long; 0 for at once."""
        self.assignments += 1
        wait = self.timings.wait
        if waited_s:
            self.wait_s += waited_s
            wait.observe(waited_s)
        else:
            wait.counts[0] += 1

    def queried(self, took_s: float) -> None:
        """A query was answered, after so long."""
        self.queries += 1
        self.query_s += took_s
        self.timings.query.observe(took_s)

    def answered(self, received_bytes: int, sent_bytes: int, xact: bool, error: bool = False) -> None:
        """A query was answered here. `xact`: and no transaction is open."""
        self.queries += 1
        self.xacts += xact
        self.errors += error
        self.received_bytes += received_bytes
        self.sent_bytes += sent_bytes


NOBODY: Final = Tally(Timings())
"""Where that counts which no client has asked for; it is told to nobody."""
