"""`pointsman explain`: where a statement would go and why, without a running Pointsman."""

from typing import Annotated

import anyio
import asyncpg
import msgspec
import typer

from healthcheck.line import Credentials, ProbeError, reason
from healthcheck.probe import Probe
from healthcheck.topology import Topology, decide
from middleware.cli.common import CONFIG_DEFAULT, EXIT_FAILED, ConfigOption, settings_or_exit
from middleware.config import Settings
from middleware.config.tls import asyncpg_tls, material_of
from middleware.supervisor.catalogs import read_catalog, source
from parser.shapes import table_for
from routing import router
from routing.catalog import Catalog
from routing.explain import Explanation, Step, explain

UNREACHABLE = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


def explain_statement(
    statement: Annotated[str, typer.Argument(help="The SQL, as a client would send it.")],
    config: ConfigOption = CONFIG_DEFAULT,
    database: Annotated[
        str, typer.Option("--database", "-d", help="Where it would run; else that of [health_check].")
    ] = "",
    user: Annotated[str, typer.Option("--user", "-U", help="Whose search_path is meant; else the server's.")] = "",
    json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Tell where a statement would go, and the chain of reasons.

    Asks the nodes and reads the database's catalog, as `serve` does. What depends on a session (a transaction, what it
    has written) only `EXPLAIN (ROUTE) statement` in that session can tell.

    Exit status 1 when no node could be asked.
    """
    settings = settings_or_exit(config)
    try:
        explanation = anyio.run(_explain, settings, statement, database or settings.health_check.database, user)
    except UNREACHABLE as error:
        typer.echo(f"pointsman: could not read the catalog: {reason(error)}", err=True)
        raise typer.Exit(EXIT_FAILED) from None
    if json:
        typer.echo(msgspec.json.format(msgspec.json.encode(explanation)).decode())
    else:
        typer.echo("\n".join(explanation.lines()))


async def _explain(settings: Settings, statement: str, database: str, user: str) -> Explanation:
    checks = settings.health_check
    tls = asyncpg_tls(material_of(settings.server_tls()))
    password = checks.password.get_secret_value() if checks.password else None
    direct = settings.server_tls_negotiation == "direct"
    credentials = Credentials(checks.user, password, checks.database, lambda: tls, direct)
    topology = await _look(settings, credentials)
    node = source(topology)
    if node is None:
        raise OSError("no node is up: " + "; ".join(f"{one.name}: {one.why}" for one in topology.nodes))
    with anyio.fail_after(checks.timeout):
        catalog: Catalog = await read_catalog(node, database, credentials, settings.overrides())
    facts = table_for(settings.primary_queries).facts_of(statement.encode())
    path = router.default_path(catalog, user)
    explanation = explain(facts, router.decide(facts, catalog, path), catalog, path)
    nodes = [
        Step(f"node {one.name}", f"{one.role.value}, {one.replay_lag_bytes} bytes behind" if one.up else one.why)
        for one in topology.nodes
    ]
    return msgspec.structs.replace(explanation, steps=(*explanation.steps, *nodes))


async def _look(settings: Settings, credentials: Credentials) -> Topology:
    """Each node asked once."""
    observed = {}

    async def ask(name: str, host: str, port: int) -> None:
        probe = Probe(name, host, port, credentials, settings.health_check.timeout)
        try:
            observed[name] = await probe.ask()
        except ProbeError as error:
            observed[name] = msgspec.structs.replace(probe.unseen(), why=str(error))
        finally:
            probe.close()

    async with anyio.create_task_group() as tasks:
        for name, node in settings.nodes.items():
            tasks.start_soon(ask, name, node.host, node.port)
    return decide([observed[name] for name in settings.nodes], Topology())
