"""One Pointsman of several leads, by a real etcd: also when the leader is killed or stopped, and when etcd is."""

import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import pytest

from healthcheck.etcd import Members, encoded
from healthcheck.guard import Happening
from healthcheck.leader import Alone, Begun
from healthcheck.leadership import BELIEVED, Claim, Leadership, clock
from healthcheck.line import ProbeError
from healthcheck.memory import Remembered
from healthcheck.web import TlsFiles
from tests.certificates import Certificates
from tests.etcd import Etcd
from tests.waiting import eventually

pytestmark = pytest.mark.anyio

DEADLINE_S = 30.0
TTL_S = 2
BEGUN = Begun("db1", 1, "db2")


@pytest.fixture
def etcd() -> Iterator[Etcd]:
    with Etcd() as own:
        yield own


class One:
    """A Pointsman's claim, and what it has told."""

    def __init__(self, members: Members, name: str, ttl_s: int = TTL_S, now: Callable[[], float] = clock) -> None:
        self.told: list[Happening] = []
        self.learned: list[Remembered] = []
        claim = Claim(members, "/test", name, ttl_s)
        self.leadership = Leadership(claim, self.told.append, self.learned.append, now=now)

    def whats(self) -> list[str]:
        return [one.what for one in self.told]

    def leads(self) -> bool:
        return not self.leadership.hindered()

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.move_on_after(DEADLINE_S):
            while not condition():
                await anyio.sleep(0.02)
            return
        pytest.fail(f"{self.leadership.hindered()}: {self.told}")

    async def until_leads(self) -> None:
        await self.until(self.leads)


@asynccontextmanager
async def running(*all_of_them: One) -> AsyncIterator[list[anyio.CancelScope]]:
    """They run while the block does; each can be cancelled."""
    scopes = []
    async with anyio.create_task_group() as tasks:

        async def run(one: One, scope: anyio.CancelScope) -> None:
            with scope:
                await one.leadership.run()

        for one in all_of_them:
            scopes.append(anyio.CancelScope())
            tasks.start_soon(run, one, scopes[-1])
        yield scopes
        tasks.cancel_scope.cancel()


def members(etcd: Etcd) -> Members:
    return Members((etcd.url,))


async def test_one_of_two_leads_and_another_when_it_goes(etcd: Etcd) -> None:
    first, second = One(members(etcd), "one"), One(members(etcd), "two")
    async with running(first) as (scope, *_):
        await first.until_leads()
        async with running(second):
            await second.until(lambda: second.whats() == ["led_by"])
            assert second.leadership.hindered() == "one leads, and is to act"
            assert second.leadership.left_s() == 0
            assert 0 < first.leadership.left_s() <= BELIEVED * TTL_S
            # Over several renewals.
            await anyio.sleep(TTL_S * 1.5)
            assert (first.leads(), second.leads()) == (True, False)
            scope.cancel()
            # Well before the lease has run out: it was let go.
            await second.until_leads()
            assert not first.leads()
            assert second.whats() == ["led_by", "leads"]
            assert first.whats() == ["leads"]


async def test_the_belief_begins_with_the_question_not_with_the_answer(etcd: Etcd) -> None:
    """Behind a slow line: etcd counts from when the question came, and the line may have been slow in either half."""
    late_s, ttl_s = 0.8, 10
    port, asked = 0, []

    async def relay(stream: anyio.abc.SocketStream) -> None:
        async with stream, await anyio.connect_tcp("127.0.0.1", etcd.port) as behind, anyio.create_task_group() as two:

            async def back() -> None:
                async for chunk in behind:
                    await anyio.sleep(late_s)
                    await stream.send(chunk)

            two.start_soon(back)
            async for chunk in stream:
                asked.append(clock())
                await behind.send(chunk)
            two.cancel_scope.cancel()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, relay)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        one = One(Members((f"http://127.0.0.1:{port}",)), "one", ttl_s)
        async with running(one):
            await one.until(lambda: one.whats() == ["leads"])
            left_s = one.leadership.left_s()
            # Two answers came late, the lease's and the key's.
            assert left_s <= BELIEVED * ttl_s - 2 * late_s
        tasks.cancel_scope.cancel()


async def test_a_belief_that_is_not_renewed_ends_by_the_clock_alone(etcd: Etcd) -> None:
    skipped = 0.0
    one = One(members(etcd), "one", 60, now=lambda: clock() + skipped)
    async with running(one):
        await one.until_leads()
        # As when all stood still: nothing was asked, and nothing of ours has run.
        skipped = 60 * BELIEVED
        assert one.leadership.left_s() == 0
        assert one.leadership.hindered() == "its lease in etcd may have run out"


async def test_how_it_stands_and_since_when(etcd: Etcd) -> None:
    one = One(members(etcd), "one")
    before = one.leadership.standing()
    # Nobody has been asked yet.
    assert (before.leads, before.answered) == (False, False)
    async with running(one):
        await one.until_leads()
        await one.until(lambda: one.leadership.standing().since > before.since)
        led = one.leadership.standing()
        assert (led.leads, led.answered) == (True, True)
        # Over several renewals.
        await anyio.sleep(TTL_S)
        assert one.leadership.standing() == led
        etcd.kill()
        await one.until(lambda: one.whats()[-1:] == ["leads_no_more"])
        lost = one.leadership.standing()
        assert (lost.leads, lost.answered) == (False, False)
        assert lost.since > led.since


async def test_without_etcd_nobody_leads_and_that_is_said(etcd: Etcd) -> None:
    first, second = One(members(etcd), "one"), One(members(etcd), "two")
    async with running(first, second):
        await first.until(lambda: first.leads() or second.leads())
        etcd.kill()
        await first.until(lambda: not first.leads() and not second.leads())
        for one in (first, second):
            await one.until(lambda: "etcd_trouble" in one.whats())  # noqa: B023 - it is awaited here
            trouble = next(told for told in one.told if told.what == "etcd_trouble")
            assert trouble.bad
            assert trouble.text.startswith(f"etcd: {etcd.url}: ")
            await one.until(lambda: "etcd does not answer" in one.leadership.hindered())  # noqa: B023
        etcd.start()
        await first.until(lambda: first.leads() or second.leads())
        await first.until(lambda: first.whats().count("etcd_answers") == 1)
        # Said once, however often it was asked in vain.
        assert first.whats().count("etcd_trouble") == 1
        assert first.leads() != second.leads()


async def test_a_hanging_etcd_ends_the_belief_in_time(etcd: Etcd) -> None:
    one = One(members(etcd), "one")
    async with running(one):
        await one.until_leads()
        etcd.signal(signal.SIGSTOP)
        await one.until(lambda: not one.leads())
        await one.until(lambda: "no answer within 0.4 s" in one.told[-1].text or "leads_no_more" in one.whats())
        etcd.signal(signal.SIGCONT)
        await one.until_leads()


async def test_the_next_member_is_asked(etcd: Etcd) -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as silent:
        port = silent.extra(anyio.abc.SocketAttribute.local_port)
        # Port 1 is reserved and refuses at once; the other takes connections and says nothing.
        one = One(Members(("http://127.0.0.1:1", f"http://127.0.0.1:{port}", etcd.url)), "one")
        async with running(one):
            await one.until_leads()
            await anyio.sleep(TTL_S)
            assert one.whats() == ["leads"]


async def test_what_has_begun_is_there_for_the_next_leader(etcd: Etcd) -> None:
    first, second = One(members(etcd), "one"), One(members(etcd), "two")
    async with running(first) as (scope, *_):
        await first.until_leads()
        async with running(second):
            await second.until(lambda: second.whats() == ["led_by"])
            with pytest.raises(ProbeError, match="another Pointsman leads now"):
                await second.leadership.begin(BEGUN)
            await first.leadership.begin(BEGUN)
            assert first.leadership.begun() == BEGUN
            scope.cancel()
            await second.until_leads()
            assert second.leadership.begun() == BEGUN
            with pytest.raises(ProbeError, match=r"may have run out|has not been asked"):
                await first.leadership.finish()
            await second.leadership.finish()
            assert second.leadership.begun() is None
    third = One(members(etcd), "three")
    async with running(third):
        await third.until_leads()
        assert third.leadership.begun() is None


async def test_who_lost_its_key_does_not_begin_though_it_believes(etcd: Etcd) -> None:
    one = One(members(etcd), "one", 60)
    async with running(one):
        await one.until_leads()
        etcd.ask("kv/deleterange", {"key": encoded("/test/leader")})
        assert one.leads()
        with pytest.raises(ProbeError, match="another Pointsman leads now"):
            await one.leadership.begin(BEGUN)
        etcd.kill()
        with pytest.raises(ProbeError, match=r"^etcd: "):
            await one.leadership.begin(BEGUN)


async def test_the_highest_timeline_is_there_for_all(etcd: Etcd) -> None:
    first, second = One(members(etcd), "one"), One(members(etcd), "two")
    first.leadership.remember(Remembered(7, 2))
    async with running(first):
        await first.until_leads()
        async with running(second):
            # Whoever leads.
            await second.until(lambda: second.learned == [Remembered(7, 2)])
            assert not second.leads()
            second.leadership.remember(Remembered(7, 4))
            await first.until(lambda: first.learned[-1:] == [Remembered(7, 4)])
            # A lower one changes nothing, and another cluster's is not mixed with it.
            first.leadership.remember(Remembered(7, 3))
            second.leadership.remember(Remembered(8, 9))
            await second.until(lambda: "etcd_other_cluster" in second.whats())
    third = One(members(etcd), "three")
    assert not third.leadership.known
    async with running(third):
        await third.until(lambda: third.leadership.known)
        assert third.learned == [Remembered(7, 4)]


async def test_etcd_with_users(etcd: Etcd) -> None:
    for what, body in (
        ("auth/user/add", {"name": "root", "password": "secret"}),
        ("auth/user/grant", {"user": "root", "role": "root"}),
        ("auth/enable", {}),
    ):
        etcd.ask(what, dict(body))
    nobody, wrong = One(members(etcd), "nobody"), One(Members((etcd.url,), "root", "wrong"), "wrong")
    right = One(Members((etcd.url,), "root", "secret"), "right")
    async with running(nobody, wrong, right):
        await right.until_leads()
        for one in (nobody, wrong):
            await one.until(lambda: one.whats() == ["etcd_trouble"])  # noqa: B023 - it is awaited here
        assert "invalid user ID or password" in wrong.told[0].text
        assert "secret" not in repr(right.leadership._claim)
        # Its tokens are forgotten then.
        etcd.kill()
        etcd.start()
        await right.until_leads()
        await right.leadership.begin(BEGUN)


async def test_etcd_over_tls(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    with Etcd(certificates) as etcd:
        url = etcd.url

        def asking(authority: str, *own: str) -> Members:
            return Members((url,), tls=TlsFiles(certificates.path(authority), *map(certificates.path, own)))

        right = One(asking("ca.pem", "app.pem", "app.key"), "right")
        stranger = One(asking("other-ca.pem", "app.pem", "app.key"), "stranger")
        bare = One(asking("ca.pem"), "bare")
        async with running(right, stranger, bare):
            await right.until_leads()
            await stranger.until(lambda: stranger.whats() == ["etcd_trouble"])
            assert "certificate verify failed" in stranger.told[0].text
            await bare.until(lambda: bare.whats() == ["etcd_trouble"])


class Claimant:
    """A process that tries to lead."""

    def __init__(self, etcd: Etcd, name: str, file: Path) -> None:
        self.name, self.file = name, file
        command = [sys.executable, "-m", "tests.healthcheck.claimant", etcd.url, name, str(TTL_S), str(file)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            self.lines.extend(lines)

    def acts(self) -> list[float]:
        """When it made sure that it might act."""
        lines = self.file.read_text().splitlines() if self.file.exists() else []
        return [float(line.split()[1]) for line in lines]

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
def test_another_takes_over_and_they_never_act_at_once(etcd: Etcd, tmp_path: Path, blow: signal.Signals) -> None:
    first = Claimant(etcd, "one", tmp_path / "one")
    second: Claimant | None = None
    try:
        eventually(lambda: bool(first.acts()), DEADLINE_S)
        second = Claimant(etcd, "two", tmp_path / "two")
        taken = second
        eventually(lambda: any("led_by" in line for line in taken.lines), DEADLINE_S)
        first.process.send_signal(blow)
        eventually(lambda: bool(taken.acts()), DEADLINE_S)
        if blow == signal.SIGSTOP:
            # It wakes up, and learns that it does not lead.
            first.process.send_signal(signal.SIGCONT)
            eventually(lambda: any("two leads" in line for line in first.lines), DEADLINE_S)
        assert max(first.acts()) < min(second.acts())
        assert min(second.acts()) - max(first.acts()) > (1 - BELIEVED) * TTL_S
    finally:
        for one in (first, second):
            if one is not None:
                one.end()


async def test_who_is_alone_may_always_act() -> None:
    alone = Alone()
    assert alone.hindered() == ""
    assert alone.left_s() == float("inf")
    await alone.begin(BEGUN)
    assert alone.begun() == BEGUN
    await alone.finish()
    assert alone.begun() is None
