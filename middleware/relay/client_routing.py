"""Where one client's batches may run, by what they say and by what the client has asked for, seen and done.

ClientConnection asks before it sends a batch, tells what it sends and when it gives a server back, and moves the bytes.
"""

from typing import Final

from middleware.config import RoutePolicy
from middleware.errors import PointsmanError
from middleware.logs.wanted import WANTED
from middleware.pool.pool import Pool
from middleware.relay.accounts import Account
from middleware.relay.answers import ASKED_FOR_PRIMARY
from middleware.relay.balance import Route
from middleware.relay.freshness import EVENTUAL, GLOBAL, LEVELS, NEVER, PRIMARY, SESSION, Marks
from middleware.relay.own_settings import AUTO, PRIMARY_ONLY, STANDBY_ONLY, OwnSettings
from middleware.relay.reasons import KEEPS_UP, LEVEL_PRIMARY, NO_STANDBY, NOT_FRESH
from middleware.relay.relay import Relay
from middleware.relay.statement_log import StatementLog
from middleware.relay.transaction import FRESH, NONE, READ, Transaction, ends
from middleware.session.batch import COMPLETE, Batch
from middleware.session.digests import UNTOLD, Digest, together
from middleware.session.expected import SYNC
from middleware.session.meter import Meter
from middleware.session.parameters import StartupParameters
from parser.facts import ALL_SETTINGS, BEGIN, CHANGES, EMPTY, LEVEL_HINTS, UNCHANGED, StatementFacts
from routing.router import (
    HINTED,
    IN_TRANSACTION,
    INCOMPLETE,
    SERIALIZABLE,
    STANDBY,
    TOO_STRICT,
    Decision,
    Router,
    Target,
)


class ClientRouting:
    """One client's."""

    __slots__ = (
        "_changes_catalog",
        "_database",
        "_digests",
        "_max_replica_lag_s",
        "_parameters",
        "_relay",
        "_route",
        "_user",
        "blind",
        "called",
        "confined",
        "digest",
        "last_facts",
        "last_node",
        "marks",
        "own",
        "pinned",
        "policy",
        "reads",
        "router",
        "saw",
        "statement_log",
        "transaction",
        "writes",
    )

    def __init__(
        self,
        relay: Relay,
        user: bytes,
        database: bytes,
        parameters: StartupParameters,
        own: OwnSettings,
        account: Account,
    ) -> None:
        policy = account.policy
        self._relay: Final = relay
        self._user: Final = user
        self._database: Final = database
        self.called: bytes | None = database
        """What its client calls it."""
        self._parameters = parameters
        self._route: Route | None = None
        self.saw = False
        """Its server has been asked something since it was lent."""
        self.reads = False
        """The batch that was sent last only reads."""
        self.writes = False
        """It may write."""
        self.blind = False
        """Names may mean something else than its settings say, since it has its server."""
        self._changes_catalog = UNCHANGED
        self.router: Router = self._router_for(parameters)
        self.own: Final = own
        self.policy = policy
        self._digests = account.digests
        self.digest: Digest = UNTOLD
        """What is sent counts for, up to the end of its batch."""
        self.statement_log: Final = StatementLog(account, relay.facts, relay.draw, relay.tracing)
        self._max_replica_lag_s = policy.max_replica_lag_s
        self.marks: Final = Marks()
        self.transaction: Final = Transaction()
        self.confined: Decision | None = TOO_STRICT if parameters.isolation == SERIALIZABLE else None
        """Why all its reads stay on the primary; None while they need not."""
        self.pinned = ""
        """What keeps it on its server, in words."""
        self.last_node = ""
        self.last_facts: StatementFacts = EMPTY
        """Its last statement, and where it went."""

    def use(self, account: Account, policy: RoutePolicy, pinned: str) -> None:
        """Another policy holds from now on, the account's or one that is told apart from it. Called while nothing is
        under way."""
        self.policy = policy
        self._digests = account.digests
        self.statement_log.use(account, self._relay.facts)
        self._max_replica_lag_s = policy.max_replica_lag_s
        self._route = None
        self.own.use(policy.consistency)
        self.settle(self._parameters, pinned)

    def _router_for(self, parameters: StartupParameters) -> Router:
        user = self._user
        return self._relay.router(
            self._database.decode(errors="replace"), user.decode(errors="replace"), parameters.path_for(user)
        )

    def settle(self, parameters: StartupParameters, pinned: str) -> None:
        """What its transactions have led to: its settings, and what keeps it on its server ("" for nothing)."""
        if parameters is not self._parameters:
            self._parameters = parameters
            self.router = self._router_for(parameters)
        # They follow ROLLBACK, as PostgreSQL's own do.
        self.own.set(ALL_SETTINGS, "")
        for name, value in parameters.own:
            self.own.set(name, value)
        self.pinned = pinned
        if pinned:
            self.confined = Decision(Target.PRIMARY, f"{PINNED} ({pinned})")
        else:
            self.confined = TOO_STRICT if parameters.isolation == SERIALIZABLE else None

    def nodes(self) -> Route:
        """Where it may go under the present topology."""
        route = self._route
        if route is None or route.version != self._relay.pools.version:
            route = self._route = self._relay.pools.route(self._database, self._user, self.policy, self.called)
        return route

    # Before a batch is sent

    def set_own(self, batch: Batch) -> PointsmanError | None:
        """Take note of what it does to settings of ours; what is wrong with that, if anything is."""
        for facts in batch.facts:
            if facts.own_setting is not None:
                name, value = facts.own_setting
                error = self.own.set(name, value)
                if error is not None:
                    return error
        return None

    def target(self, batch: Batch) -> Target:
        """Where a batch outside a transaction may run, from all that is known of it."""
        if batch.state != COMPLETE and (batch.executes or batch.binds):
            # It goes on, and what follows is not known.
            return Target.PRIMARY
        own = self.own
        if own.route != AUTO:
            return Target.PRIMARY if own.route == PRIMARY_ONLY else Target.STANDBY
        if self.confined is not None:
            return Target.PRIMARY
        frames = False
        for facts in batch.facts:
            if self.router.route(facts).target is not STANDBY and not self._begins_on_standby(facts):
                return Target.PRIMARY
            frames = frames or facts.transaction is not None
        return Target.PRIMARY if frames and self._outgrows_standby(batch) else STANDBY

    def _outgrows_standby(self, batch: Batch) -> bool:
        """Whether it begins a transaction that no standby can be counted on for to its end."""
        for facts in batch.facts:
            control = facts.transaction
            if control is None or control.kind != BEGIN:
                continue
            if batch.named_portal and self.policy.transaction_reads == "until_write":
                # It may be asked for more rows after the first write.
                return True
            if facts.hint not in HINTED and not facts.pattern:
                return self._must_keep_up(self.level(batch), control.isolation)
        return False

    def _must_keep_up(self, level: int, isolation: str) -> bool:
        """Whether each statement of a transaction is to see what anybody was told of by then."""
        return level == GLOBAL and self._sees_anew(isolation) and self.policy.read_from_primary != "never"

    def _sees_anew(self, isolation: str) -> bool:
        """Whether each statement of a transaction that was begun so has a snapshot of its own."""
        return (isolation or self._parameters.isolation or self.router.isolation) in EACH_ITS_SNAPSHOT

    def _begins_on_standby(self, facts: StatementFacts) -> bool:
        """Whether it begins a transaction that may begin on a standby, though it does not say that it only reads."""
        control = facts.transaction
        if control is None or control.kind != BEGIN or control.read_only is not None or facts.hint or facts.pattern:
            return False
        if not self.router.standbys_fit() or control.isolation == SERIALIZABLE:
            return False
        return self._read_only_by_default() or self._until_write(control.isolation)

    def _read_only_by_default(self) -> bool:
        own = self._parameters.read_only
        return self.router.read_only if own is None else own

    def _until_write(self, isolation: str) -> bool:
        """Whether its reads go to a standby until it writes: only where each statement has its own snapshot."""
        if self.policy.transaction_reads != "until_write" or self.own.level == GLOBAL:
            return False
        return self._sees_anew(isolation)

    def only_reads(self) -> bool:
        """Whether the transaction it is in only reads, each of its statements what is there then."""
        transaction = self.transaction
        if transaction.phase not in (FRESH, READ) or transaction.read_only is not True:
            return False
        return self._sees_anew(transaction.isolation)

    def leaves_state(self, batch: Batch) -> bool:
        """Whether it calls a function that may leave something on its session."""
        return any(facts.calls and self.router.leaves_state(facts) for facts in batch.facts)

    def level(self, batch: Batch) -> int:
        """The level of consistency of a batch: its session's, or that of the hints in it where all have one."""
        if not batch.special:
            return self.own.level
        level = EVENTUAL
        for facts in batch.facts:
            level = max(level, self.level_of(facts))
        return level

    def level_of(self, facts: StatementFacts) -> int:
        """That of a statement."""
        return LEVELS[facts.hint] if facts.hint in LEVEL_HINTS else self.own.level

    def reader(self, route: Route, level: int) -> Pool | None:
        """Who may serve its next read now, at a level of consistency; None while no standby may."""
        if self.own.route == STANDBY_ONLY:
            return route.standby(self.marks)
        if level == PRIMARY or self._relay.commits.unreported():
            return None
        need, seen = self.needs(level)
        return route.reader(need, seen, self.marks)

    def needs(self, level: int) -> tuple[float, float]:
        """As of when a standby must be fresh for its next read, and as of when unless it read there last."""
        relay = self._relay
        now, route = relay.clock.now, self._route
        if route is not None and route.primary is None:
            # Nothing is committed: who is behind is so behind the one that has the most.
            now = min(now, max([pool.state.fresh_as_of for pool in route.standbys], default=now))
        need = max(self.router.changed_at, now - self._max_replica_lag_s)
        if level == SESSION:
            return max(need, self.marks.written), self.marks.seen
        if level == GLOBAL:
            # A standby may have shown what nobody was told of yet. Of what the primary shows, somebody is told at once.
            seen = NEVER if self.marks.last is None else self.marks.seen
            return max(need, relay.commits.latest()), seen
        return need, NEVER

    def wants_standby(self, route: Route, level: int) -> bool:
        """Whether the read that no standby may serve now could go to one later; asks for newer samples."""
        if level == PRIMARY or self.own.route == STANDBY_ONLY:
            return False
        if route.standbys:
            self._relay.want_freshness()
        return True

    def leaves(self, batch: Batch, on_primary: bool) -> bytes | None:
        """Whether its open transaction must go on elsewhere: None to stay, else what begins it there."""
        if not on_primary:
            return self.transaction.to_primary(batch, self.router)
        if self.confined is not None or not self.router.standbys_fit():
            return None
        again = self.transaction.to_standby(batch)
        if again is None or self._must_keep_up(self.level(batch), self._isolation_after(batch)):
            return None
        route = self.nodes()
        return again if self.reader(route, self.level(batch)) not in (None, route.primary) else None

    def _isolation_after(self, batch: Batch) -> str:
        """That of its transaction behind SET TRANSACTION, as far as that was said."""
        control = batch.facts[-1].transaction
        return (control.isolation if control is not None else "") or self.transaction.isolation

    def lags(self, batch: Batch, pool: Pool) -> bool:
        """Whether the standby that it has its server from may not serve a batch, for what has happened since."""
        level = self.level(batch)
        if level < GLOBAL or self.own.route == STANDBY_ONLY:
            return False
        self.nodes()
        return level == PRIMARY or pool.state.fresh_as_of < self.needs(level)[0]

    # When it is sent

    def sends(self, batch: Batch, pool: Pool, on_primary: bool) -> bool:
        """A batch is about to be sent; whether it writes."""
        writes = False
        reads = True
        for facts in batch.facts:
            decision = self.router.route(facts)
            writes = writes or decision.writes
            reads = reads and decision.target is STANDBY
            why = decision.reason if on_primary else ""
            if on_primary and batch.executes and not facts.write_reason and not facts.asks:
                why = self._count_kept(batch, decision)
            if batch.executes or batch.binds:
                self._count_digest(batch, facts, on_primary, why)
                if WANTED.statements and not facts.asks and facts is not EMPTY:
                    self.statement_log.add(facts, why)
            if facts.special:
                self._note_special(facts)
            if decision.writes and self.transaction.phase == NONE and facts.transaction is None:
                # By itself.
                self.transaction.commits = True
            if self.transaction.phase != NONE or facts.transaction is not None:
                self._note_transaction(batch, facts, decision.target is STANDBY, on_primary)
            if facts.transaction is None and not facts.asks:
                self.saw = True
        self.reads, self.writes = reads, writes
        facts = batch.facts[-1]
        if not facts.asks:
            self.last_node, self.last_facts = pool.node, facts
        if not on_primary:
            pool.state.reads += 1
            if batch.executes:
                self._relay.reasons.on_standbys += 1
            return False
        if reads and self.transaction.phase == NONE:
            pool.state.reads += 1
        else:
            pool.state.writes += 1
        return writes

    def sends_query(
        self, facts: StatementFacts, decision: Decision, pool: Pool, on_primary: bool, meter: Meter
    ) -> None:
        """The same for a Query that is nothing special, without a Batch made for it."""
        self.saw = True
        self.last_node, self.last_facts = pool.node, facts
        why = decision.reason
        if on_primary and not facts.write_reason:
            why = self._count_kept(None, decision)
        digest = self._digests.of(facts)
        digest.sent(1, on_primary)
        if on_primary and why:
            digest.reason = why
        if WANTED.statements:
            self.statement_log.add(facts, why if on_primary else "")
            digest = self._watched(digest, on_primary)
        meter.calls.append(digest)
        if not on_primary:
            pool.state.reads += 1
            self._relay.reasons.on_standbys += 1
            return
        if self.transaction.phase != NONE:
            self.transaction.note(facts, reads=False)
            pool.state.writes += 1
        elif decision.writes:
            self.transaction.commits = True
            pool.state.writes += 1
        elif decision.target is STANDBY:
            pool.state.reads += 1
        else:
            pool.state.writes += 1

    def _count_kept(self, batch: Batch | None, decision: Decision) -> str:
        """A read goes to the primary: why? Asked after it was chosen, for the count, where nothing hangs on it."""
        own = self.own
        if self.transaction.open():
            keeps_up = self.transaction.read_only and self._must_keep_up(own.level, self.transaction.isolation)
            reason = KEEPS_UP if keeps_up else IN_TRANSACTION.reason
        elif decision.target is not STANDBY:
            reason = decision.reason
        elif own.route == PRIMARY_ONLY:
            reason = ASKED_FOR_PRIMARY.reason
        elif self.confined is not None:
            reason = self.confined.reason
        elif batch is not None and batch.state != COMPLETE:
            reason = INCOMPLETE.reason
        elif batch is not None and len(batch.facts) > 1 and self.target(batch) is not STANDBY:
            reason = "another statement of its pipeline needs the primary"
        elif (own.level if batch is None else self.level(batch)) == PRIMARY:
            reason = LEVEL_PRIMARY
        elif self.policy.read_from_primary == "always":
            return ""
        else:
            reason = NOT_FRESH if self.nodes().standbys else NO_STANDBY
        self._relay.reasons.count(reason)
        return reason

    def _count_digest(self, batch: Batch, facts: StatementFacts, on_primary: bool, why: str) -> None:
        """A statement of a batch is about to be sent, or the part that binds it."""
        if facts.asks or facts is EMPTY:
            return
        digest = self._digests.of(facts)
        calls = batch.executes
        if calls > 1 and len(batch.facts) > 1:
            # How often each was executed, nobody has noted: once, and the last one the rest.
            calls = max(1, calls - len(batch.facts) + 1) if facts is batch.facts[-1] else 1
        digest.sent(calls, on_primary)
        if why:
            digest.reason = why
        self.digest = together(self.digest, digest)

    def sends_end(self, batch: Batch, meter: Meter, on_primary: bool) -> None:
        """A part of a batch was sent. With its end, the answer to all of it is due."""
        if batch.executes and not batch.facts:
            # Of what was bound in another part.
            self.digest.sent(batch.executes, on_primary)
        if batch.ops and batch.ops[-1] is SYNC:
            self.asks_for_end(meter, on_primary)

    def asks_for_end(self, meter: Meter, on_primary: bool) -> None:
        """A ReadyForQuery is due for what was sent since the last one."""
        digest, self.digest = self.digest, UNTOLD
        meter.calls.append(self._watched(digest, on_primary) if WANTED.statements else digest)

    def _watched(self, digest: Digest, on_primary: bool) -> Digest:
        """Who hears of the end of a query, where slow ones are logged."""
        return self.statement_log.end(digest, self.last_node, on_primary, self.policy, self._parameters)

    def _note_special(self, facts: StatementFacts) -> None:
        if facts.changes_catalog > self._changes_catalog:
            self._changes_catalog = facts.changes_catalog

    def _note_transaction(self, batch: Batch, facts: StatementFacts, reads: bool, on_primary: bool) -> None:
        transaction = self.transaction
        if not batch.executes:
            if batch.binds and ends(facts):
                # What executes it comes without its text.
                transaction.commits = True
            return
        before = transaction.phase
        transaction.note(facts, reads)
        if before != NONE or transaction.phase != FRESH:
            return
        if self.own.route != AUTO or facts.hint in HINTED or facts.pattern:
            # Its client, or the settings, have said by name where it runs.
            transaction.stay()
        elif not on_primary and transaction.read_only is None:
            transaction.until_write = not self._read_only_by_default()

    # When its server has answered

    def changed_catalog(self) -> bool:
        """Whether what it was sent since it has its server changes the catalog."""
        return self._changes_catalog == CHANGES

    def catalog_changes(self) -> int:
        """The same, or that it may: as StatementFacts have it."""
        return self._changes_catalog

    def left(self, pool: Pool, on_primary: bool, wrote: bool, now: float) -> None:
        """It has given its server back, or keeps it between transactions: keep in mind what was seen and done on it."""
        self.transaction.phase = NONE
        self.transaction.commits = self.blind = False
        if wrote:
            self.marks.wrote(now)
            self._relay.commits.note_write(now)
        elif self.saw:
            self.marks.read(None if on_primary else pool, now)
        self.saw = False
        changes = self._changes_catalog
        if changes:
            self._changes_catalog = UNCHANGED
            # On a standby it can only have failed.
            if on_primary:
                self._relay.catalog_changed(self._database.decode(errors="replace"), certain=changes == CHANGES)


PINNED: Final = "its session keeps its server"

EACH_ITS_SNAPSHOT: Final = ("", "read committed", "read uncommitted")
"""Isolation levels in which each statement has a snapshot of its own; the first is PostgreSQL's default."""
