"""Watches the database app of a node, by its port and the password of pointsman, until it is killed."""

import sys
import tempfile

import anyio

from healthcheck.line import Credentials
from healthcheck.topology import Node, Role, Topology
from middleware.cache.versions import Versions, bytes_for
from middleware.supervisor.cache_watch import Watcher


async def main(port: int, password: str) -> None:
    """Never returns."""
    with tempfile.TemporaryFile() as file:
        file.truncate(bytes_for(1))
        watcher = Watcher(
            Credentials("pointsman", password, "postgres"),
            Versions(file.fileno(), 0, 1, mine=1),
            print,
            mode="logical",
            interval_s=0.2,
            publication="pointsman_cache",
            timeout_s=5.0,
        )
    watcher.topology_changed(Topology(1, (Node("db1", "127.0.0.1", port, Role.PRIMARY, True),), 1, 1))
    watcher.databases_changed(["app"])
    watcher.use(True)
    await watcher.run()


if __name__ == "__main__":
    anyio.run(main, int(sys.argv[1]), sys.argv[2])
