"""Which of several Pointsmans may act on the nodes: the one that holds a key in etcd, under a lease it keeps alive.

The key is put by a transaction that succeeds for one alone, and goes when its holder has not renewed the lease for
`ttl_s`. Who holds it believes so until BELIEVED of that time has passed *from when it began to ask* for the latest
renewal that succeeded, by its own clock; etcd counts from when it heard of it, which is later. So between the end of
one's belief and the beginning of another's there is at least a fifth of `ttl_s`, however long anybody is stopped;
unless one clock runs a quarter faster than another.

Beside the key stands, while one is under way, which failover has begun. Whoever leads next goes on from there: it
promotes no other node than the one that may already have been told to, and does what was left undone.

    PREFIX/leader     the leader's name, under its lease
    PREFIX/failover   a Begun, put only while the leader's key is held
    PREFIX/timeline   a Remembered, by whoever has seen the highest timeline: for those that cannot see it
"""

import contextlib
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

import anyio
import msgspec

from healthcheck.etcd import EtcdClient, EtcdError, Members, decoded, encoded
from healthcheck.guard import Happening
from healthcheck.leader import Begun
from healthcheck.line import ProbeError
from healthcheck.memory import Remembered

BELIEVED: Final = 0.8
"""The share of the lease's time that its holder relies on."""
ROUNDS: Final = 5
"""How often it is renewed, or asked for, within its time; and a member has as long to answer."""
RESIGN_S: Final = 1.0
"""For letting go of it at the end."""

Body = dict[str, Any]
Put = TypeVar("Put")


def clock() -> float:
    """Seconds that go on while the machine is suspended, where the system has such a clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Claim(msgspec.Struct, frozen=True):
    """What is claimed by whom."""

    members: Members
    prefix: str
    """The same for all Pointsmans of one cluster, and for no other."""
    name: str
    """This Pointsman's, for people."""
    ttl_s: int = 10


class Standing(msgspec.Struct, frozen=True):
    """How it stands with a claim."""

    leads: bool
    since: float
    """Since when it leads, or does not; since 1970."""
    answered: bool
    """etcd has, the last time that it was asked."""


class Leadership:
    """One Pointsman's claim to lead. A guard's Leader."""

    def __init__(
        self,
        claim: Claim,
        tell: Callable[[Happening], None],
        learned: Callable[[Remembered], None] = lambda _: None,
        *,
        now: Callable[[], float] = clock,
    ) -> None:
        """`learned`: is told of a timeline that others have seen."""
        self._claim: Final = claim
        self._tell: Final = tell
        self._learned: Final = learned
        self._now: Final = now
        self._every_s: Final = claim.ttl_s / ROUNDS
        self._etcd: Final = EtcdClient(claim.members, self._every_s)
        self._key: Final = encoded(f"{claim.prefix}/leader")
        self._failover_key: Final = encoded(f"{claim.prefix}/failover")
        self._timeline_key: Final = encoded(f"{claim.prefix}/timeline")
        self._asking: Final = anyio.Lock()
        self._lease = ""
        self._until = 0.0
        """When the belief ends."""
        self._led = False
        """What was told last."""
        self._since = time.time()
        """Since when that is so."""
        self._leader = ""
        """Another that leads, by its name."""
        self._trouble = ""
        self._said: set[str] = set()
        self._begun: Begun | None = None
        self._remembered: Remembered | None = None
        """What we have seen."""
        self._theirs: Remembered | None = None
        """What is in etcd."""
        self.known = False
        """It has been asked at least once."""

    def remember(self, remembered: Remembered) -> None:
        """Let others know of it, and whoever comes after a restart: within a round."""
        self._remembered = remembered

    # What a guard asks

    def left_s(self) -> float:
        """For how long from now it leads; 0 if it does not."""
        return max(0.0, self._until - self._now())

    def hindered(self) -> str:
        """Why it may not act; "" if it may."""
        if self.left_s() > 0:
            return ""
        if self._trouble:
            return "etcd does not answer, so that nobody knows who leads"
        if self._leader:
            return f"{self._leader} leads, and is to act"
        return "its lease in etcd may have run out" if self._until else "it has not been asked yet who leads"

    def begun(self) -> Begun | None:
        """The failover that has begun, by whomever."""
        return self._begun

    async def begin(self, begun: Begun) -> None:
        """Put down which failover begins, if this one leads by etcd's word too. Raises ProbeError."""
        await self._put_down(
            {"request_put": {"key": self._failover_key, "value": encoded(msgspec.json.encode(begun).decode())}}, begun
        )

    async def finish(self) -> None:
        """It has ended, or has come to nothing. Raises ProbeError."""
        await self._put_down({"request_delete_range": {"key": self._failover_key}}, None)

    def standing(self) -> Standing:
        """How it stands now."""
        leads = self.left_s() > 0
        # A belief may have ended since the last round.
        return Standing(leads, self._since if leads == self._led else time.time(), self.known and not self._trouble)

    # The claim

    async def run(self) -> None:
        """Try to lead, and go on leading; cancelled, let go."""
        try:
            while True:
                try:
                    async with self._asking:
                        await self._round()
                    self._troubled("")
                except EtcdError as error:
                    self._troubled(str(error))
                except (KeyError, IndexError, TypeError, ValueError) as error:
                    self._troubled(f"does not answer as etcd does: {type(error).__name__}: {error}")
                self.known = True
                self._tell_of_change()
                await anyio.sleep(self._every_s)
        finally:
            self._until = 0.0
            with anyio.CancelScope(shield=True), anyio.move_on_after(RESIGN_S):
                await self._resign()

    async def _round(self) -> None:
        """Renew the lease, or get one, and the key with it. Raises EtcdError, and what an answer in disorder does."""
        began, ttl_s = self._now(), 0
        if self._lease:
            renewed = await self._etcd.ask("lease/keepalive", {"ID": self._lease})
            ttl_s = int(renewed["result"].get("TTL", 0))
        if ttl_s <= 0:
            # None, or it has run out: what was held under it is gone.
            self._until, self._lease = 0.0, ""
            began = self._now()
            granted = await self._etcd.ask("lease/grant", {"TTL": self._claim.ttl_s})
            self._lease, ttl_s = str(granted["ID"]), int(granted["TTL"])
        answer = await self._etcd.ask("kv/txn", self._wish())
        holders, records, timelines = (one.get("response_range", {}).get("kvs", []) for one in answer["responses"])
        self._begun = _read(records[0]["value"], Begun) if records else None
        # Just put, or put by us before. etcd may have given more time than was asked for.
        if answer.get("succeeded") or str(holders[0].get("lease", "")) == self._lease:
            self._until = began + BELIEVED * min(ttl_s, self._claim.ttl_s)
            self._leader = ""
        else:
            self._until = 0.0
            self._led_by(decoded(holders[0]["value"]))
        await self._compare_timelines(timelines)

    def _wish(self) -> Body:
        """The key, if it is nobody's; who has it, if it is; and in any case what has begun."""
        put = {"key": self._key, "value": encoded(self._claim.name), "lease": self._lease}
        records = [{"request_range": {"key": key}} for key in (self._failover_key, self._timeline_key)]
        return {
            "compare": [{"key": self._key, "target": "CREATE", "create_revision": "0"}],
            "success": [{"request_put": put}, *records],
            "failure": [{"request_range": {"key": self._key}}, *records],
        }

    async def _compare_timelines(self, found: list[Body]) -> None:
        """Learn what is in etcd, or put down what is not. Raises EtcdError."""
        theirs = _read(found[0]["value"], Remembered) if found else None
        if theirs is not None and theirs != self._theirs:
            self._theirs = theirs
            self._learned(theirs)
        ours = self._remembered
        if ours is not None and theirs is not None and ours.system_identifier != theirs.system_identifier:
            self._say_once("etcd_other_cluster", f"{self._claim.prefix} in etcd is another cluster's: see etcd_prefix")
        if ours is not None and ours.beyond(theirs):
            put = {"key": self._timeline_key, "value": encoded(msgspec.json.encode(ours).decode())}
            # If it is another by now, that is looked at in the next round.
            as_it_was = {"key": self._timeline_key, "target": "MOD"}
            as_it_was["mod_revision"] = str(found[0]["mod_revision"]) if found else "0"
            await self._etcd.ask("kv/txn", {"compare": [as_it_was], "success": [{"request_put": put}], "failure": []})

    async def _put_down(self, change: Body, begun: Begun | None) -> None:
        if not self._lease:
            raise ProbeError(self.hindered())
        held = {"key": self._key, "target": "LEASE", "lease": self._lease}
        try:
            async with self._asking:
                answer = await self._etcd.ask("kv/txn", {"compare": [held], "success": [change], "failure": []})
        except EtcdError as error:
            raise ProbeError(f"etcd: {error}") from None
        if not answer.get("succeeded"):
            raise ProbeError("another Pointsman leads now")
        self._begun = begun

    async def _resign(self) -> None:
        lease, self._lease = self._lease, ""
        try:
            # If it cannot be let go, it runs out by itself.
            with contextlib.suppress(EtcdError):
                if lease:
                    await self._etcd.ask("lease/revoke", {"ID": lease})
        finally:
            await self._etcd.close()

    # What is told

    def _troubled(self, trouble: str) -> None:
        if bool(trouble) != bool(self._trouble):
            text = f"etcd: {trouble}" if trouble else "etcd answers again"
            self._say("etcd_trouble" if trouble else "etcd_answers", text, bad=bool(trouble))
        self._trouble = trouble

    def _led_by(self, name: str) -> None:
        if name != self._leader:
            self._leader = name
            self._say("led_by", f"{name} leads, and acts on the nodes")

    def _tell_of_change(self) -> None:
        leads = self.left_s() > 0
        if leads != self._led:
            self._led, self._since = leads, time.time()
            if leads:
                self._say("leads", f"this Pointsman leads, and acts on the nodes, as {self._claim.name}")
            else:
                self._say("leads_no_more", f"this Pointsman leads no more: {self.hindered()}", bad=True)

    def _say_once(self, what: str, text: str) -> None:
        if what not in self._said:
            self._said.add(what)
            self._say(what, text, bad=True)

    def _say(self, what: str, text: str, *, bad: bool = False) -> None:
        self._tell(Happening(time.time(), what, text, "", bad))


def _read(value: object, kind: type[Put]) -> Put | None:
    """What was put down; None for what nobody of ours has."""
    try:
        return msgspec.json.decode(decoded(value), type=kind)
    except (ValueError, msgspec.DecodeError):
        return None
