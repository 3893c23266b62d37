"""Byte streams cut as a network might cut them."""

from itertools import pairwise

from hypothesis import strategies as st

CUTS = st.lists(st.integers(0, 2000), max_size=12)
"""Where to cut; positions behind the end count as the end."""


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """`data` in pieces, in order, none empty."""
    edges = sorted({0, len(data), *(min(position, len(data)) for position in cuts)})
    return [data[start:end] for start, end in pairwise(edges)]
