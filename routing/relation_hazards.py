"""The hazards of relations: what they are, and what is read with them: parts, policies, and what a view reaches."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec

from parser.facts import StatementFacts
from parser.shapes import FactsTable
from routing.catalog import Catalog
from routing.judgement import Judgement
from routing.overload import Thing
from routing.rows import Relation

QUALIFIED: Final = ("pg_catalog",)
"""Texts from the catalog are read under an empty search_path: what is not qualified is built in."""

_BY_KIND: Final = {
    "S": "is a sequence, whose values are ahead on a standby",
    "f": "is a foreign table, whose data is not the cluster's",
}


def condition(text: str, texts: FactsTable) -> StatementFacts:
    """The facts of an expression."""
    return texts.facts_of(f"SELECT {text}".encode())


class Relations:
    """The hazard of each relation by oid; without an entry it has none."""

    def __init__(
        self,
        relations: Sequence[Relation],
        catalog: Catalog,
        tainted: Mapping[int, str],
        texts: "TextsOf",
        judgement: Judgement,
    ) -> None:
        """`texts` as texts_of() gives them."""
        self.hazards: dict[int, str] = {}
        self._tainted = tainted
        self._by_oid = {one.oid: one for one in relations}
        self._by_name = {(one.schema, one.name): one for one in relations}
        self._texts = texts
        self._judgement = judgement
        # What these texts name is judged as far as it is known, and known better with each round.
        self._catalog = msgspec.structs.replace(catalog, relations={})
        for one in relations:
            self._know(one, "")
        order = self._dependencies_first(relations)
        more = True
        while more:
            more = False
            for one in order:
                hazard = "" if one.oid in self.hazards else self._own(one)
                if hazard:
                    self.hazards[one.oid] = hazard
                    self._know(one, hazard)
                    more = True

    def _know(self, relation: Relation, hazard: str) -> None:
        things = self._catalog.relations.get(relation.name, ())
        others = tuple(thing for thing in things if thing.schema != relation.schema)
        self._catalog.relations[relation.name] = (*others, Thing(relation.schema, hazard))

    def _dependencies_first(self, relations: Sequence[Relation]) -> list[Relation]:
        """So that one round does for most; a stack of our own, for views upon views upon views."""
        order: dict[int, Relation] = {}
        seen: set[int] = set()
        for relation in relations:
            pending = [relation]
            while pending:
                one = pending[-1]
                needed = [] if one.oid in seen else [need for need in self._needed(one) if need.oid not in seen]
                seen.add(one.oid)
                if needed:
                    pending.extend(needed)
                else:
                    order.setdefault(one.oid, one)
                    pending.pop()
        return list(order.values())

    def _needed(self, relation: Relation) -> Iterable[Relation]:
        for facts, _ in self._texts.get(relation.oid, ()):
            for schema, name in facts.relations:
                need = self._by_name.get((schema or "pg_catalog", name))
                if need is not None:
                    yield need
        for child in relation.children:
            if child in self._by_oid:
                yield self._by_oid[child]

    def _own(self, relation: Relation) -> str:
        if relation.persistence != "p":
            return "is unlogged" if relation.persistence == "u" else "is temporary"
        if relation.kind in _BY_KIND:
            return _BY_KIND[relation.kind]
        for column in relation.columns:
            if column in self._tainted:
                return f"has a column of {self._tainted[column]}"
        for child in relation.children:
            if child in self.hazards:
                return f"has the part {self._by_oid[child].name}, which {self.hazards[child]}"
        hazard = self._judgement.relation(relation)
        if hazard:
            return hazard
        texts = self._texts.get(relation.oid, ())
        for place, (facts, text) in enumerate(texts):
            hazard = self._judgement.text(facts, text, self._catalog, QUALIFIED)
            if hazard:
                what = "a view" if relation.kind == "v" and place == len(texts) - 1 else "under row security"
                return f"is {what}: {hazard}"
        return ""


TextsOf = Mapping[int, Sequence[tuple[StatementFacts, str]]]


def texts_of(relations: Sequence[Relation], texts: FactsTable) -> TextsOf:
    """By oid: the facts, and the texts, of its policies, and of a view's definition last."""
    return {one.oid: _facts(one, texts) for one in relations if one.kind == "v" or one.policies}


def _facts(relation: Relation, texts: FactsTable) -> list[tuple[StatementFacts, str]]:
    found = [(condition(policy, texts), policy) for policy in relation.policies]
    if relation.kind == "v":
        definition = relation.definition.rstrip("; \n")
        found.append((texts.facts_of(definition.encode()), definition))
    return found
