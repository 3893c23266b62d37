"""The whole chain of reasons for a decision, for people: `EXPLAIN (ROUTE)` and `pointsman explain`."""

import msgspec

from parser.facts import LEVEL_HINTS, StatementFacts
from routing.catalog import Catalog, SearchPath, judged
from routing.router import Decision, decide


class Step(msgspec.Struct, frozen=True):
    """One part of the statement, and what is known of it."""

    part: str
    verdict: str


class Explanation(msgspec.Struct, frozen=True):
    """A decision with all that it rests on."""

    target: str
    reason: str
    steps: tuple[Step, ...]

    def lines(self) -> list[str]:
        """As EXPLAIN would write it."""
        return [
            f"Route to {self.target}",
            f"  Because {self.reason}",
            *(f"  ->  {step.part}: {step.verdict}" for step in self.steps),
        ]


HARMLESS = "harmless on a standby"


def explain(facts: StatementFacts, decision: Decision, catalog: Catalog | None, path: SearchPath) -> Explanation:
    """Why `decision` was made for `facts`; the decision itself may rest on the session, too."""
    alone = decide(facts, catalog, path)
    steps = [Step(f"by its text it is {_kind(facts)}", facts.write_reason or HARMLESS)]
    if facts.hint:
        asked = "consistency" if facts.hint in LEVEL_HINTS else "node"
        steps.append(Step(f"a comment asks for a {asked}: {facts.hint}", "obeyed"))
    if facts.pattern:
        steps.append(Step("its text", f"matches {facts.pattern} of primary_queries"))
    if catalog is None:
        steps.append(Step("the catalog of its database", "is not loaded yet"))
    else:
        if catalog.hazard:
            steps.append(Step(f'the catalog of "{catalog.database}"', catalog.hazard))
        steps.extend(Step(part, hazard or HARMLESS) for part, hazard in judged(facts, catalog, path))
    if alone != decision:
        steps.append(Step("its session", decision.reason))
    return Explanation(decision.target.value, decision.reason, tuple(steps))


def _kind(facts: StatementFacts) -> str:
    return "several statements" if facts.kind == "Several" else facts.kind.removesuffix("Stmt").upper()
