"""The hazards of functions: what they are declared as, what the lists say of them, and what their bodies mention."""

import re
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from routing.judgement import Judgement
from routing.overload import Overload
from routing.rows import Function

EXECUTES: Final = "executes text that cannot be seen beforehand"
_WORD: Final = re.compile(r"[a-z_\x80-\U0010ffff][a-z0-9_$\x80-\U0010ffff]*")


class Functions:
    """The functions, and the hazard of each by oid; without an entry it has none."""

    def __init__(self, functions: Sequence[Function], judgement: Judgement) -> None:
        self._all = functions
        self._judgement = judgement
        self._by_oid = {one.oid: one for one in functions}
        listed = {one.oid: said for one in functions if (said := judgement.listed(one)) is not None}
        self._safe = {oid for oid, said in listed.items() if not said}
        self.hazards = {
            one.oid: hazard for one in functions if (hazard := listed.get(one.oid, judgement.declared(one)))
        }
        harmless = {one.name for one in functions if one.builtin and one.oid not in self.hazards}
        self._names = {
            one.name.lower(): self.hazards[one.oid]
            for one in functions
            if one.oid in self.hazards and one.name not in harmless
        }
        """The names, in lower case, whose mention in a function's body is enough: no built-in of theirs is harmless."""
        self._shadowing = {
            f"{one.schema}.{one.name}".lower(): self.hazards[one.oid]
            for one in functions
            if one.oid in self.hazards and one.name in harmless
        }
        """Those named like a harmless built-in: these have to be called with their schemas."""
        self._by_lower: dict[str, set[int]] = {}
        for one in functions:
            self._by_lower.setdefault(one.name.lower(), set()).add(one.oid)
        self._words = {
            one.oid: frozenset(_WORD.findall(one.body.lower()))
            for one in functions
            if one.oid not in self.hazards and (one.parts or one.body)
        }
        """Of those whose declaration is not the last word."""

    def spread_types(self, tainted: Mapping[int, str], types: Mapping[int, str]) -> None:
        """What takes or returns a type takes over its hazard: a value is converted to a domain where it is passed."""
        for one in self._all:
            for of in one.types:
                if of in tainted:
                    self._add(one, f"is for {tainted[of]}")
                elif of in types:
                    self._add(one, f"is for a type that {types[of]}")

    def spread_mentions(self, others: Mapping[str, str], operators: Mapping[str, str]) -> None:
        """What a function's body mentions, it may use, whatever it is declared as.

        `others` are the hazards of relations and types by name.
        """
        names = {name.lower(): hazard for name, hazard in others.items()}
        more = True
        while more:
            more = False
            for oid, words in self._words.items():
                one = self._by_oid[oid]
                hazard = self._inside(one, words, names, operators)
                if hazard and oid not in self.hazards and oid not in self._safe:
                    self._add(one, hazard)
                    more = True

    def by_name(self) -> dict[str, tuple[Overload, ...]]:
        names: dict[str, set[Overload]] = {}
        for one in self._all:
            overload = Overload(one.schema, one.least, one.most, self.hazards.get(one.oid, ""))
            names.setdefault(one.name, set()).add(overload)
        return {name: tuple(sorted(overloads, key=msgspec.structs.astuple)) for name, overloads in names.items()}

    def attributes(self) -> dict[str, str]:
        return {one.name: self.hazards[one.oid] for one in self._all if one.attribute and one.oid in self.hazards}

    def _add(self, function: Function, hazard: str) -> None:
        if function.oid not in self.hazards and function.oid not in self._safe:
            self.hazards[function.oid] = hazard
            self._names.setdefault(function.name.lower(), hazard)

    def _inside(
        self, function: Function, words: frozenset[str], others: Mapping[str, str], operators: Mapping[str, str]
    ) -> str:
        for part in function.parts:
            if part in self.hazards:
                return f"is an aggregate over {self._by_oid[part].name}(), which {self.hazards[part]}"
        if "execute" in words and function.language != "sql":
            return EXECUTES
        body = function.body.lower()
        if 'u&"' in body:
            return "mentions names with escapes, which are not read"
        said = self._judgement.body(body)
        if said:
            return said
        for names in (self._names, others):
            for name in sorted(words & names.keys()):
                if names is others or name != function.name.lower() or self._another(function, name):
                    return f"mentions {name}, which {names[name]}"
            for name in names:
                if not _WORD.fullmatch(name) and name.replace('"', '""') in body:
                    return f"mentions {name}, which {names[name]}"
        for name, hazard in self._shadowing.items():
            if name in body:
                return f"mentions {name}, which {hazard}"
        for name, hazard in operators.items():
            if name in function.body:
                return f"mentions the operator {name}, which {hazard}"
        return ""

    def _another(self, function: Function, name: str) -> bool:
        """Whether its own name may be that of another function, a hazardous one."""
        return any(oid != function.oid and oid in self.hazards for oid in self._by_lower[name])
