"""What a PromQL expression mentions: enough of its grammar for the queries of this repository."""

import re

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"')


def metrics_of(expr: str) -> set[str]:
    """The metrics, with what a histogram's name has behind it taken off."""
    names = set(re.findall(r"\b(?:pointsman_[a-z_]+|up)\b", _STRING.sub('""', expr)))
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in names}


def labels_of(expr: str) -> set[str]:
    """The labels, of matchers and of groupings."""
    plain = _STRING.sub('""', expr)
    found = set(re.findall(r"([a-z_]+) *(?:=~|!~|!=|=)\"\"", plain))
    for group in re.findall(r"\b(?:by|without|on|ignoring|group_left|group_right) *\(([^)]*)\)", plain):
        found |= {label.strip() for label in group.split(",") if label.strip()}
    return found
