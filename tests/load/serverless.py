"""The run "serverless": clients that connect, ask once and go, in a closed loop; what a proxy spends on each.

Side by side with PgBouncer, in interleaved rounds, with the same ways of proving who one is. As both know a password
or only what PostgreSQL keeps of it, both cases are run: PgBouncer derives a password anew for each client.
"""

import asyncio
import re
import ssl
import statistics
import subprocess
import time
from collections import Counter, deque
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import uvloop

from middleware.sandbox import Sandbox
from tests.bench.contenders import Pointsman, Proxy
from tests.bench.cpu import cpu_seconds
from tests.bench.measure import started
from tests.bench.poolers import PgBouncer
from tests.certificates import Certificates
from tests.load.client import Account, Client, Lost, all_gone, connect
from tests.load.order import percentile
from tests.load.result import Result, Say

WARM_UP_S: Final = 0.5
STUCK_S: Final = 60.0
CERTIFICATE: Final = ("server.pem", "server.key")
TRUST: Final = "trust"
SCRAM: Final = "SCRAM"
OVER_TLS: Final = "SCRAM over TLS"
KNOWN: Final = "SCRAM, passwords known"
VARIANTS: Final = (TRUST, SCRAM, OVER_TLS, KNOWN)
CPU_RATIO_MAX: Final = 4.0
"""CPU for a connection, by PgBouncer's: of the same order."""


class Plan(msgspec.Struct, frozen=True):
    """One run."""

    clients: int
    seconds: float
    """Of each contender in each round."""
    rounds: int
    variants: tuple[str, ...] = VARIANTS
    build: Path | None = None


class Sample(msgspec.Struct, frozen=True):
    """One contender in one round."""

    rate: float
    """Connections in a second."""
    cpu_us: float
    """Of the proxy, for a connection."""
    client_us: float
    """Of the client."""
    p50_ms: float
    p99_ms: float
    failures: int


class Bouncer(PgBouncer):
    """With certificates, where the clients are to come over TLS."""

    probe = "SELECT 1"
    certificates: Certificates | None = None

    def start(self) -> subprocess.Popen[bytes]:
        if self.certificates is not None:
            files = [self.write(name, Path(self.certificates.path(name)).read_text()) for name in CERTIFICATE]
            self.more_settings = (
                f"client_tls_sslmode = prefer\nclient_tls_cert_file = {files[0]}\nclient_tls_key_file = {files[1]}\n"
            )
        return super().start()


class Ours(Pointsman):
    """With a secret in the password's place, where that is all that is known of it."""

    probe = "SELECT 1"
    secret = ""

    def settings_text(self) -> str:
        password = self.cluster.passwords[self.cluster.user]
        return super().settings_text().replace(password, self.secret or password)


def serverless(cluster: Sandbox, directory: Path, plan: Plan, say: Say) -> list[Result]:
    """Run it: a result for each contender under each variant."""
    found = []
    for variant in plan.variants:
        place = directory / re.sub("[^a-zA-Z]+", "-", variant)
        place.mkdir()
        # PgBouncer may run as another user, and must get through to its own directory.
        place.chmod(0o711)
        contenders = _contenders(cluster, place, variant, plan)
        with started(contenders, say) as running:
            found.extend(_compare([one for one in contenders if one in running], variant, place, plan, say))
    return found


def _contenders(cluster: Sandbox, place: Path, variant: str, plan: Plan) -> list[Bouncer | Ours]:
    bouncer = Bouncer(cluster, place / "pgbouncer")
    settings: dict[str, object] = {}
    if variant == TRUST:
        bouncer.auth_type = "trust"
        settings["auth_type"] = "trust"
    if variant == OVER_TLS:
        bouncer.certificates = Certificates(place)
        settings |= {"client_tls_sslmode": "prefer", **bouncer.certificates.server_settings()}
    ours = [Ours(cluster, place / "pointsman", workers=1)]
    if plan.build is not None:
        ours.append(Ours(cluster, place / "compiled", workers=1, build=plan.build))
    for one in ours:
        one.more_settings = settings
    contenders: list[Bouncer | Ours] = [bouncer, *ours]
    if variant in (SCRAM, OVER_TLS):
        secret = cluster.query(f"SELECT rolpassword FROM pg_authid WHERE rolname = '{cluster.user}'")[0][0]
        for contender in contenders:
            contender.secret = secret
    return contenders


def _compare(contenders: Sequence[Proxy], variant: str, place: Path, plan: Plan, say: Say) -> list[Result]:
    samples: dict[str, list[Sample]] = {one.title: [] for one in contenders}
    for number in range(1, plan.rounds + 1):
        for contender in contenders:
            sample = uvloop.run(_sample(contender, _account(contender, variant, place), plan))
            samples[contender.title].append(sample)
            say(
                f"{variant}, round {number}/{plan.rounds}, {contender.title}: {sample.rate:.0f} connections/s, "
                f"{sample.cpu_us:.0f} µs each, {sample.failures} failed"
            )
    base = samples.get(Bouncer.title)
    return [_result(variant, title, mine, base) for title, mine in samples.items()]


def _account(contender: Proxy, variant: str, place: Path) -> Account:
    target = contender.target("simple")
    tls = ssl.create_default_context(cafile=str(place / "ca.pem")) if variant == OVER_TLS else None
    return Account(target.host, target.port, target.user, target.database, target.password, tls)


async def _sample(contender: Proxy, account: Account, plan: Plan) -> Sample:
    """One contender for a while; a part of it before the measuring begins."""
    took: list[float] = []
    failed: Counter[str] = Counter()
    began = time.monotonic()
    over = began + WARM_UP_S + plan.seconds
    # TLS takes a while to say goodbye: each client may have some that do.
    lately: deque[Client] = deque(maxlen=20 * plan.clients)
    running = [asyncio.create_task(_again_and_again(account, over, took, failed, lately)) for _ in range(plan.clients)]
    await asyncio.sleep(WARM_UP_S)
    assert contender.pid is not None
    before, count, own, measured = cpu_seconds(contender.pid), len(took), time.process_time(), time.monotonic()
    # Not to the very end: the last ones have the proxy for themselves.
    await asyncio.sleep(plan.seconds)
    connections = len(took) - count
    cpu_s, own_s = cpu_seconds(contender.pid) - before, time.process_time() - own
    seconds = time.monotonic() - measured
    await asyncio.gather(*running)
    await all_gone(lately)
    counted = sorted(took[count : count + connections])
    each = max(1, connections)
    return Sample(
        connections / seconds,
        cpu_s * 1e6 / each,
        own_s * 1e6 / each,
        percentile(counted, 0.5) * 1000,
        percentile(counted, 0.99) * 1000,
        failed.total(),
    )


async def _again_and_again(
    account: Account, until: float, took: list[float], failed: Counter[str], lately: deque[Client]
) -> None:
    while time.monotonic() < until:
        began = time.perf_counter()
        try:
            async with asyncio.timeout(STUCK_S):
                client = await connect(account)
                answer = await client.query(b"SELECT 1")
            client.terminate()
            lately.append(client)
        except (Lost, OSError) as error:
            failed[str(error)] += 1
            continue
        if answer.error or answer.row != (b"1",):
            failed[answer.error] += 1
        took.append(time.perf_counter() - began)


def _result(variant: str, title: str, samples: list[Sample], base: list[Sample] | None) -> Result:
    figures = {
        "connections/s": statistics.median(one.rate for one in samples),
        "CPU for a connection, µs": statistics.median(one.cpu_us for one in samples),
        "p50, ms": statistics.median(one.p50_ms for one in samples),
        "p99, ms": statistics.median(one.p99_ms for one in samples),
        "client's CPU, µs": statistics.median(one.client_us for one in samples),
    }
    failures = []
    failed = sum(one.failures for one in samples)
    if failed:
        failures.append(f"{title}: {failed} connections failed")
    if base is not None and base is not samples:
        # In a short round a proxy that derives a password for each client may have let nobody in.
        rounds = [(mine, theirs) for mine, theirs in zip(samples, base, strict=True) if theirs.rate and theirs.cpu_us]
        if not rounds:
            return Result(f"serverless, {variant}", title, figures, failures)
        ratio = statistics.median(mine.cpu_us / theirs.cpu_us for mine, theirs in rounds)
        figures["connections/s by PgBouncer's"] = statistics.median(mine.rate / theirs.rate for mine, theirs in rounds)
        figures["CPU by PgBouncer's"] = ratio
        if ratio > CPU_RATIO_MAX:
            failures.append(f"{title}: {ratio:.1f} times PgBouncer's CPU")
    return Result(f"serverless, {variant}", title, figures, failures)
