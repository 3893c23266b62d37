"""What an operator has said of databases, as one worker carries it out: PAUSE, DISABLE, RECONNECT, KILL, SUSPEND.

In: control.SetPauses and the orders that go with it. Out: what is left of it to be waited for (control.PauseProgress).

A database is called what clients ask for, whatever a rule makes of it. Clients of one that is *paused* are led to no
node (Pools.route): their batches wait where others wait for a primary, for query_wait_timeout. What has a server goes
on: transactions to their end, and clients whose session is on a server until they are gone. Its pools close what comes
back; one that clients of another name use as well stays open for those.

While all is *suspended* nothing is read from clients that are logged in, nor from servers; what was read is passed on,
or waits as where all is paused. Those who log in wait when they have proved who they are, so that the console can still
be come by. No server is closed.
"""

from typing import TYPE_CHECKING, Final

import structlog

from middleware.control import Left, PauseProgress, SetPauses
from middleware.errors import ConnectionLost, NoNode
from middleware.pool.pool import Pool
from middleware.pool.recall import go_on, pause, renew, to_close, under_way
from middleware.pool.server_connection import IDLE, LENT, Borrower

if TYPE_CHECKING:
    from middleware.relay.relay import Client, Relay

log: Final = structlog.get_logger("worker")

PoolKey = tuple[bytes, bytes, str]
"""Database and user, as nodes call them, and the name of a rule."""


class Pauses:
    """One worker's."""

    __slots__ = ("_disabled", "_force_at", "_relay", "_said", "suspended")

    def __init__(self, relay: "Relay") -> None:
        self._relay: Final = relay
        self._said = SetPauses(0)
        self._disabled: frozenset[bytes] = frozenset()
        self.suspended = False
        """Nothing is read from clients and servers."""
        self._force_at = 0.0
        """When what has not been passed on by then is closed."""

    def disabled(self, called: bytes | None) -> bool:
        """Whether no new client may come in to a database."""
        return called in self._disabled

    def everything(self) -> bool:
        """Whether all databases are paused, in one word."""
        return self._said.everything == "paused"

    def keeps_out(self, called: bytes | None, replicates: bool) -> bool:
        """Whether a client that has proved who it is must wait, whatever is known of what it is to be told."""
        return self.suspended or (replicates and self._relay.pools.paused(called))

    # What was said

    def use(self, said: SetPauses) -> None:
        """Go by this from now on."""
        before, self._said = self._said, said
        self._disabled = frozenset(name.encode() for name in said.disabled)
        names = frozenset(name.encode() for name in said.paused)
        self._relay.pools.set_paused(said.everything != "active", names)
        self._send_away()
        self._apply(self.everything(), names)
        if (said.everything == "suspended") != self.suspended:
            self._suspend(not self.suspended)
        if before.everything != said.everything == "active" or not set(before.paused) <= set(said.paused):
            # The nodes may have been made others.
            self._relay.welcomes.clear()
            self._relay.without_primary.look()

    def apply_again(self) -> None:
        """There are other rules now, or pools."""
        if self._relay.pools.some_paused:
            self.use(self._said)

    def _send_away(self) -> None:
        """Have clients that are paused wait in no pool: they begin anew, in the order they came."""
        pools = self._relay.pools
        waiting = [
            (waiter.since, pool, waiter.client)
            for pool in pools.all()
            for waiter in pool.plan.waiting
            if pools.paused(waiter.client.called)
        ]
        for since, pool, client in sorted(waiting, key=_since):
            client.waiting_since = since
            pool.withdraw(client)
            client.not_lent(PAUSED)

    def _apply(self, everything: bool, names: frozenset[bytes]) -> None:
        """Pause the pools whose clients are paused, all of them, and have the others go on."""
        relay = self._relay
        mine = self._leads(names)
        others = {client.pool_key() for client in relay.clients.values() if not relay.pools.paused(client.called)}
        for pool in relay.pools.all():
            paused = everything or (
                (pool.database, pool.policy.name) in mine and (pool.database, pool.user, pool.policy.name) not in others
            )
            if paused and not pool.plan.paused:
                pause(pool)
            elif pool.plan.paused and not paused:
                go_on(pool)

    def _leads(self, names: frozenset[bytes]) -> set[tuple[bytes, str]]:
        """Which databases, as nodes call them, clients of these names may be led to, and by pools of which rules."""
        return {
            (policy.server_database.encode() or name, policy.pool.name)
            for name in names
            for policy in self._relay.policies.leading(name.decode(errors="replace"))
        }

    # Orders

    def reconnect(self, database: str | None) -> int:
        """Have each server of a database, or of all, be closed when it comes back; returns how many there are."""
        return sum([renew(pool) for pool in self._pools(database)])

    def kill(self, database: str | None) -> int:
        """Close the clients of a database that is paused, or all, and its servers; returns how many clients."""
        clients = self._clients(database)
        for client in clients:
            client.terminate()
        for pool in self._pools(database):
            if pool.plan.paused:
                pool.abandon(ConnectionLost("terminating connection due to administrator command"))
        return len(clients)

    def kill_client(self, process_id: int) -> int:
        """Close a client; returns whether there is one, as a count."""
        client = self._relay.clients.get(process_id)
        if client is None:
            return 0
        client.terminate()
        return 1

    def send_waiting_away(self) -> None:
        """Close the clients that wait for a server: Pointsman ends, and there will be none."""
        for client in list(self._relay.clients.values()):
            if client.waits() and client.called is not None:
                client.terminate()

    # What is left

    def left(self) -> PauseProgress:
        """Of what was said to be paused, suspended or closed."""
        said = self._said
        scopes = dict.fromkeys([*said.paused, *said.closing])
        if said.everything != "active" or None in scopes:
            scopes[None] = None
        return PauseProgress(said.serial, tuple([self._left(database) for database in scopes]))

    def settled(self, progress: PauseProgress) -> bool:
        """Whether nothing more is to be waited for, by what left() has said."""
        return not any(self._awaited(one) for one in progress.left)

    def _awaited(self, left: Left) -> bool:
        said = self._said
        if left.to_close and left.database in said.closing:
            return True
        if left.database is None and said.everything != "paused":
            return left.unsent > 0
        return (left.servers > 0 or left.replicating > 0) and (left.database is None or left.database in said.paused)

    def all_closed(self) -> bool:
        """Whether no server is left."""
        return not self._relay.replicating and not any(pool.plan.size() for pool in self._relay.pools.all())

    def _left(self, database: str | None) -> Left:
        relay = self._relay
        busy = resting = servers = closing = 0
        for pool in self._pools(database):
            closing += to_close(pool)
            if database is None or pool.plan.paused:
                more = under_way(pool)
                busy, resting, servers = busy + more[0], resting + more[1], servers + pool.plan.size()
            else:
                for server in pool.plan.lent:
                    if server.client is not None and server.client.called == database.encode():
                        rests = server.session.at_rest()
                        busy, resting, servers = busy + (not rests), resting + rests, servers + 1
        replicating = sum([database is None or one.called == database.encode() for one in relay.replicating])
        unsent = self._unsent() if database is None and self.suspended else 0
        return Left(database, busy, resting, replicating, servers, closing, unsent)

    def _clients(self, database: str | None) -> "list[Client]":
        if database is None:
            return [client for client in self._relay.clients.values() if client.called is not None]
        called = database.encode()
        return [client for client in self._relay.clients.values() if client.called == called]

    def _pools(self, database: str | None) -> list[Pool]:
        """Those that clients of a database may be led to, or all."""
        pools = self._relay.pools.all()
        if database is None:
            return pools
        mine = self._leads(frozenset((database.encode(),)))
        return [pool for pool in pools if (pool.database, pool.policy.name) in mine]

    # Suspending

    def _suspend(self, suspended: bool) -> None:
        relay = self._relay
        self.suspended = suspended
        self._force_at = relay.loop.time() + relay.settings.suspend_timeout_s
        for client in list(relay.clients.values()):
            client.suspend(suspended)
        for pool in relay.pools.all():
            for server in pool.servers():
                # The others are nobody's: they become idle.
                if not suspended or server.state in (IDLE, LENT):
                    server.suspend(suspended)

    def _unsent(self) -> int:
        """How many clients and servers have not taken all that was read for them."""
        unsent = [client for client in self._relay.clients.values() if client.called is not None and client.unsent()]
        servers = [
            server
            for pool in self._relay.pools.all()
            for server in pool.servers()
            if server.transport.get_write_buffer_size()
        ]
        timeout_s = self._relay.settings.suspend_timeout_s
        if (unsent or servers) and timeout_s and self._relay.loop.time() >= self._force_at:
            log.warning("suspend_timeout: what does not take what it is sent is closed", connections=len(unsent))
            for client in unsent:
                client.terminate()
            for server in servers:
                server.fail(ConnectionLost(f'node "{server.pool.node}" takes nothing (suspend_timeout)'))
        return len(unsent) + len(servers)


PAUSED: Final = NoNode("the database is paused")
"""Why a pool has nothing for clients that are paused. They do not hear of it."""


def _since(entry: tuple[float, Pool, Borrower]) -> float:
    return entry[0]
