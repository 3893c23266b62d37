"""Checks: does a node have the memory for its connections?"""

from collections.abc import Iterator
from typing import Final

from middleware.doctor.capacity import for_us
from middleware.doctor.facts import Case, NodeFacts
from middleware.doctor.finding import Finding, advice, error, warning
from middleware.doctor.pools import servers
from middleware.doctor.units import size

SHARED_BUFFERS_SHARE_MAX: Final = 0.4
"""PostgreSQL's manual, "Resource Consumption": 25 % is a start, more than 40 % is unlikely to work better."""


def _connections(case: Case, node: NodeFacts) -> int:
    """At once: as many as may be opened, and as the node lets in."""
    need = case.instances * servers(case).all
    room = for_us(node)
    return need if room is None else min(need, room)


def work_mem(case: Case) -> Iterator[Finding]:
    """`shared_buffers` + connections x `work_mem` x `hash_mem_multiplier` + autovacuum's workers against the node's
    memory (`--memory`, or asked of this machine): one sort or hash in each connection, where a query can have many. An
    error where that is more than all of it, a warning above 80 %."""
    for node in case.asked:
        memory, each = node.memory_bytes, node.number("work_mem")
        if memory is None or each is None:
            continue
        count = _connections(case, node)
        shared = node.number("shared_buffers") or 0
        factor = max(1.0, node.number("hash_mem_multiplier") or 1.0)
        vacuum = _autovacuum(node)
        need = shared + count * each * factor + vacuum
        if need > 0.8 * memory:
            fits = (0.8 * memory - shared - vacuum) / (max(1, count) * factor)
            yield (error if need > memory else warning)(
                f"{size(shared)} shared_buffers + {count} connections x {size(each)} work_mem x {factor:g} "
                f"hash_mem_multiplier + {size(vacuum)} for autovacuum = {size(need)}; it has {size(memory)}",
                "Out of memory, the kernel kills a backend, and the node restarts all of them.",
                f"work_mem = {max(64, int(fits // 1024))}kB, or fewer connections"
                if fits > 0
                else "smaller shared_buffers, or more memory",
                node.name,
            )


def _autovacuum(node: NodeFacts) -> float:
    each = node.number("autovacuum_work_mem") or -1
    if each < 0:
        each = node.number("maintenance_work_mem") or 0
    return each * (node.number("autovacuum_max_workers") or 0)


def shared_buffers(case: Case) -> Iterator[Finding]:
    """`shared_buffers` above 40 % of the node's memory."""
    for node in case.asked:
        shared = node.number("shared_buffers") or 0
        if node.memory_bytes is not None and shared > SHARED_BUFFERS_SHARE_MAX * node.memory_bytes:
            yield advice(
                f"shared_buffers is {size(shared)}, of {size(node.memory_bytes)}",
                "The operating system's cache and the connections need the rest; 25 % is the usual value.",
                f"shared_buffers = {int(node.memory_bytes // 4 // 2**20)}MB",
                node.name,
            )


def memory_not_known(case: Case) -> Iterator[Finding]:
    """A node's memory is not known: it is on another machine, and `--memory` was not given."""
    for node in case.asked:
        if node.memory_bytes is None:
            yield advice(
                "its memory is not known: it is on another machine",
                f"What {_connections(case, node)} connections may need cannot be held against it.",
                "--memory SIZE, such as 16GB",
                node.name,
            )


CHECKS: Final = (work_mem, shared_buffers, memory_not_known)
