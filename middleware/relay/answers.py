"""Answers about routing, for one client: EXPLAIN (ROUTE) and SHOW pointsman.last_route."""

from typing import TYPE_CHECKING, Final

import msgspec
from msgspec.structs import astuple

from healthcheck.topology import Node, Role
from middleware.pool.surroundings import NodeState
from middleware.relay.freshness import NEVER
from middleware.relay.own_settings import AUTO, PRIMARY_ONLY
from middleware.session.answers import Answerer, rows
from parser.facts import LAST_ROUTE, REASONS, SESSION_STATE, StatementFacts
from routing.explain import Explanation, Step, explain
from routing.router import IN_TRANSACTION, Decision, Target

if TYPE_CHECKING:
    from middleware.relay.client_connection import ClientConnection

ASKED_FOR_PRIMARY: Final = Decision(Target.PRIMARY, "its session asks for the primary (pointsman.route)")
AS_READER: Final = {
    "never": "takes no read that a standby may serve",
    "fallback": "takes it if no standby may",
    "always": "may take it",
}
ASKED_FOR_STANDBY: Final = Decision(Target.STANDBY, "its session asks for a standby (pointsman.route)")


STATE_COLUMNS: Final = ("application_name", "user", "database", "state", "action", "statements")


class RouteAnswers(Answerer):
    """What one client may ask."""

    __slots__ = ("_client",)

    def __init__(self, client: "ClientConnection") -> None:
        self._client: Final = client

    def answer(self, facts: StatementFacts) -> bytes:
        if facts.asks == LAST_ROUTE:
            return rows(("pointsman.last_route",), [(self.last_route(),)])
        if facts.asks == REASONS:
            return rows(("reason", "statements", "share", "hint"), self._client.relay.shared_reasons.table())
        if facts.asks == SESSION_STATE:
            return rows(STATE_COLUMNS, self._states())
        explained = facts.explained
        assert explained is not None
        explanation = self._explain(explained)
        if facts.as_json:
            return rows(("QUERY PLAN",), [(msgspec.json.format(msgspec.json.encode([explanation])).decode(),)])
        return rows(("QUERY PLAN",), [(line,) for line in explanation.lines()])

    def _states(self) -> list[tuple[str | int, ...]]:
        uses = self._client.relay.shared_states
        # An answer has at least one line.
        return [astuple(use) for use in uses] or [("", "", "", "none", "", 0)]

    def last_route(self) -> str:
        """Where its last statement went, and why; "" before the first."""
        node = self._client.routing.last_node
        if not node:
            return ""
        decision = self.decision(self._client.routing.last_facts)
        primary = self._client.relay.pools.topology.primary()
        if decision.target is Target.STANDBY and primary is not None and primary.name == node:
            if self._client.routing.policy.read_from_primary == "always":
                return f"{node}: {decision.reason}, and the primary is one of the readers"
            return f"{node}: {decision.reason}, but no standby was fresh enough"
        return f"{node}: {decision.reason}"

    def decision(self, facts: StatementFacts) -> Decision:
        """Where a statement would go now, and why; whether a standby is fresh enough is another question."""
        client = self._client
        if client.in_transaction():
            return IN_TRANSACTION
        if client.routing.own.route != AUTO:
            return ASKED_FOR_PRIMARY if client.routing.own.route == PRIMARY_ONLY else ASKED_FOR_STANDBY
        return client.routing.confined or client.routing.router.route(facts)

    def _explain(self, facts: StatementFacts) -> Explanation:
        client = self._client
        router = client.routing.router
        explanation = explain(facts, self.decision(facts), router.catalog, router.path)
        reads = explanation.target == Target.STANDBY.value
        steps = [
            *explanation.steps,
            Step("the query cache", self._from_cache(facts)),
            *(self._node(node, reads, client.routing.level_of(facts)) for node in client.relay.pools.topology.nodes),
        ]
        return msgspec.structs.replace(explanation, steps=tuple(steps))

    def _from_cache(self, facts: StatementFacts) -> str:
        """Whether its answer may come from there."""
        client = self._client
        if not client.relay.cache.serving:
            return "is off"
        if self.decision(facts).target is not Target.STANDBY:
            return "is for reads that a standby may serve"
        why = client.routing.router.cached(facts).why
        if why:
            return f"does not keep it: {why}"
        if not client.answers_kept(facts):
            return "may keep it, and is not to"
        return "may answer it"

    def _node(self, node: Node, reads: bool, level: int) -> Step:
        policy = self._client.routing.policy
        state = self._client.relay.pools.node(node.name)
        is_primary = node.role is Role.PRIMARY
        what = f"node {node.name}, {node.role.value}"
        if not is_primary or policy.read_from_primary == "always":
            what += self._share(node)
        if not node.up:
            verdict = f"not used: {node.why}" if node.why else "not used"
        elif is_primary:
            verdict = AS_READER[policy.read_from_primary] if reads else "takes it"
        elif not reads:
            verdict = f"not asked ({self._lag(state)})"
        else:
            verdict = f"{self._why_not(node, level) or 'may take it'} ({self._lag(state)})"
        return Step(what, verdict)

    def _share(self, node: Node) -> str:
        """Which part of the reads it takes."""
        settings = self._client.relay.settings
        share = settings.share_of(node.name)
        said = f", weight {share.weight}"
        if share.zone:
            said += f", {'our ' if share.zone == settings.zone else ''}zone {share.zone}"
        return said + ", preferred" if node.name in self._client.routing.policy.prefer else said

    def _lag(self, state: NodeState) -> str:
        if state.fresh_as_of == NEVER:
            return "lag not known"
        behind = max(0.0, self._client.relay.loop.time() - state.fresh_as_of)
        return f"has all up to {behind:.3f} s ago, {state.lag_bytes} bytes behind"

    def _why_not(self, node: Node, level: int) -> str:
        """Why a standby may not serve this client's next read."""
        client = self._client
        if not client.relay.settings.share_of(node.name).weight:
            return "takes no reads"
        fresh = client.relay.pools.node(node.name).fresh_as_of
        need, seen = client.routing.needs(level)
        if fresh < client.routing.router.changed_at:
            return "not fresh enough: the catalog has changed since"
        if fresh < need:
            return "not fresh enough: its client, or the level of consistency, needs later commits"
        last = client.routing.marks.last
        if fresh < seen and (last is None or last.node != node.name):
            return "not fresh enough: its client has read elsewhere since"
        return ""
