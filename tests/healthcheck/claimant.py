"""A process that tries to lead, for tests to kill and to stop: python -m tests.healthcheck.claimant URL NAME TTL FILE.

Whenever it may act it appends a line to FILE, "NAME MOMENT", with a moment *before* it has made sure that it may.
"""

import sys
from pathlib import Path

import anyio

from healthcheck.etcd import Members
from healthcheck.guard import Happening
from healthcheck.leadership import Claim, Leadership, clock


async def main(url: str, name: str, ttl_s: int, file: Path) -> None:
    def tell(happening: Happening) -> None:
        print(happening.what, happening.text, flush=True)

    leadership = Leadership(Claim(Members((url,)), "/test", name, ttl_s), tell)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leadership.run)
        with file.open("a") as acts:
            while True:
                at = clock()
                if not leadership.hindered():
                    print(name, at, file=acts, flush=True)
                await anyio.sleep(0.02)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))
