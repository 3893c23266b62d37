"""What a pgpool.conf says of load balancing, as settings of reads."""

import re
import warnings
from typing import Final

from middleware.config.imported import Imported, Values, is_on

_LISTS: Final = {
    "app_name_redirect_preference_list": "application_name",
    "user_redirect_preference_list": "user",
    "database_redirect_preference_list": "database",
}
"""In the order in which they count there."""
_PREFERENCE: Final = re.compile(r"(.+):\s*(\w+)\s*(?:\(\s*([0-9.]+)\s*\))?")
_FUNCTIONS: Final = {"write_function_list": "primary_functions", "read_only_function_list": "safe_functions"}
_QUERIES: Final = "primary_routing_query_pattern_list"
UNITS: Final = {"": 1, "B": 1, "kB": 2**10, "MB": 2**20, "GB": 2**30, "TB": 2**40}


def reads(found: Imported, pairs: dict[str, str]) -> None:
    """Take what is said of reads out of `pairs`."""
    one_node = not is_on(pairs.pop("statement_level_load_balance"))
    if not is_on(pairs.pop("load_balance_mode")):
        found.values["consistency"] = "primary"
        found.note("load_balance_mode", 'off: consistency = "primary" keeps reads on the primary, as there')
    else:
        found.values["read_from_primary"] = "always"
        found.note("read_from_primary", 'the primary is one of the readers there; "fallback" would spare it')
        found.values["session_affinity"] = "on" if one_node else "off"
    _lag(found, pairs)
    for name, setting in _FUNCTIONS.items():
        take_expressions(found, name, setting, pairs.pop(name, "").split(","), "{}")
    queries = re.split(r"(?<!\\);", pairs.pop(_QUERIES, ""))
    # There each is for the whole of a statement.
    take_expressions(found, _QUERIES, "primary_queries", [one.replace("\\;", ";") for one in queries], "^(?:{})$")
    for name, key in _LISTS.items():
        _preferences(found, name, key, pairs.pop(name, ""))


def _lag(found: Imported, pairs: dict[str, str]) -> None:
    by_time, by_bytes = pairs.pop("delay_threshold_by_time", "0"), pairs.pop("delay_threshold", "0")
    if not re.fullmatch(r"0*\s*[a-z]*", by_time):
        # It counts alone there.
        found.take("delay_threshold_by_time", by_time, "max_replica_lag", unit_s=1e-3)
        return
    size = re.fullmatch(r"([0-9]+)\s*([A-Za-z]*)", by_bytes)
    if size is None or size[2] not in UNITS:
        found.note("delay_threshold", f'not taken: "{by_bytes}" is not a size')
        return
    found.take("delay_threshold", str(int(size[1]) * UNITS[size[2]]), "max_replica_lag_bytes")
    found.note("max_replica_lag", "a standby that is 10 s behind serves no reads, which is the default here")


def take_expressions(found: Imported, name: str, setting: str, parts: list[str], form: str = "{}") -> None:
    """A list of expressions. Their letters are of any case there, and in primary_queries."""
    taken = []
    for part in (one.strip() for one in parts):
        any_case = part if setting == "primary_queries" or part == part.lower() else f"(?i:{part})"
        if part and _is_expression(found, name, part):
            taken.append(form.format(any_case))
    if taken:
        found.values[setting] = taken
        if setting in _FUNCTIONS.values():
            found.note(name, "functions that are on no list count by what they are declared as, and by their bodies")


def _is_expression(found: Imported, name: str, part: str) -> bool:
    """POSIX's there, Python's here: mostly the same."""
    try:
        with warnings.catch_warnings():
            # Of what it understands otherwise than POSIX: [[:alpha:]].
            warnings.simplefilter("error")
            # Queries are searched as bytes.
            re.compile(part.encode())
            re.compile(part)
    except (re.error, FutureWarning) as error:
        found.note(name, f'"{part}" is not taken: a regular expression, as Python has them ({error})')
        return False
    return True


def _preferences(found: Imported, name: str, key: str, text: str) -> None:
    """A rule each."""
    for part in (one.strip() for one in text.split(",")):
        match = _PREFERENCE.fullmatch(part)
        rule = None if match is None else _rule(found, match[2])
        if not part:
            continue
        if match is None or rule is None:
            found.note(name, f'"{part}" is not taken: no such node')
        elif match[3] is not None and not re.fullmatch(r"1(\.0*)?", match[3]):
            found.note(name, f'"{part}" is not taken: a rule cannot give a node a share of the reads')
        elif _is_expression(found, name, match[1].strip()):
            found.routes.append({key: match[1].strip(), **rule})


def _rule(found: Imported, node: str) -> Values | None:
    if node == "primary":
        return {"consistency": "primary"}
    if node == "standby":
        return {"read_from_primary": "fallback"}
    return {"prefer": [f"db{node}"]} if f"db{node}" in found.nodes else None
