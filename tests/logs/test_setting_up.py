"""set_up_logs() in a process of its own: levels, subjects, the journal, a log that cannot be written."""

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

HEAD = """
import structlog
from middleware.logs import LogOptions, set_up_logs, tell_left_out
client, pool = structlog.get_logger("client"), structlog.get_logger("pool")
"""


def run(code: str, **environment: str) -> str:
    """What it writes to standard error."""
    done = subprocess.run(
        [sys.executable, "-c", HEAD + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def lines(code: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(code).splitlines()]


def test_a_level_of_a_subject_and_its_change_while_it_runs() -> None:
    told = lines(
        """
        set_up_logs(LogOptions(level="info", levels={"client": "error", "pool": "debug"}, format="json"), worker=3)
        client.warning("state 1"); client.error("state 2"); pool.debug("state 3")
        set_up_logs(LogOptions(level="debug", levels={"pool": "warning"}, format="json"))
        client.debug("state 4"); pool.info("state 5"); pool.warning("state 6")
        """
    )
    assert [(line["event"], line["subject"], line["level"], line["worker"]) for line in told] == [
        ("state 2", "client", "error", 3),
        ("state 3", "pool", "debug", 3),
        ("state 4", "client", "debug", 3),
        ("state 6", "pool", "warning", 3),
    ]


def test_an_event_has_its_name_and_no_field_without_a_value() -> None:
    (told,) = lines(
        """
        set_up_logs(LogOptions(format="json"))
        client.info("login refused", user=b"app", database="d\\nx", why=None, sqlstate="28P01")
        """
    )
    assert told["id"] == "login_refused"
    assert told["user"] == "app"
    assert told["database"] == "d\nx"
    assert "why" not in told


def test_libraries_speak_in_the_same_form() -> None:
    told = lines(
        """
        import asyncio, logging
        set_up_logs(LogOptions(format="json"))
        logging.getLogger("asyncio").warning("took %s s", 3)
        logging.getLogger("asyncio").info("not heard")
        logging.getLogger("x").error("%d", "no number")
        try:
            1 / 0
        except ZeroDivisionError:
            logging.getLogger("x").exception("failed")
        """
    )
    assert [(line["id"], line["level"], line["logger"], line["said"]) for line in told] == [
        ("library", "warning", "asyncio", "took 3 s"),
        ("library", "error", "x", "%d"),
        ("library", "error", "x", "failed"),
    ]
    assert "ZeroDivisionError" in told[2]["exception"]


def test_a_bug_has_its_traceback() -> None:
    text = run(
        """
        set_up_logs(LogOptions())
        try:
            1 / 0
        except ZeroDivisionError:
            client.exception("a bug has ended a login", user=b"app", database=b"db")
        """
    )
    first, *rest = text.splitlines()
    assert first.endswith("[error    ] client: a bug has ended a login user=app database=db")
    assert rest[-1] == "    ZeroDivisionError: division by zero"


def test_what_is_left_out_of_a_storm_is_said() -> None:
    told = lines(
        """
        set_up_logs(LogOptions(format="json", event_rate_max=1))
        for _ in range(500):
            client.info("login refused", user="app")
        client.info("client is gone", user="app")
        tell_left_out()
        """
    )
    refused = [line for line in told if line["id"] == "login_refused"]
    assert 10 <= len(refused) < 20
    assert told[-2]["id"] == "client_gone"
    assert told[-1]["id"] == "lines_left_out"
    assert told[-1]["event_id"] == "login_refused"
    assert told[-1]["lines"] == 500 - len(refused)


def test_the_journal_is_told_the_priority_of_each_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    code = """
    set_up_logs(LogOptions())
    client.info("login refused", user="app")
    try:
        1 / 0
    except ZeroDivisionError:
        client.exception("a bug has ended a login")
    """
    with log.open("w") as stream:
        status = os.fstat(stream.fileno())
        for named in (f"{status.st_dev}:{status.st_ino}", "1:1"):
            subprocess.run(
                [sys.executable, "-c", HEAD + textwrap.dedent(code)],
                stderr=stream,
                check=True,
                timeout=60,
                env={**os.environ, "JOURNAL_STREAM": named},
            )
    told = log.read_text().splitlines()
    half = len(told) // 2
    assert told[0] == "<6>[info     ] client: login refused user=app"
    assert told[1] == "<3>[error    ] client: a bug has ended a login"
    assert all(line.startswith("<3>    ") for line in told[2:half])
    # Another's stream: it is no journal that reads this one.
    assert told[half].endswith("Z [info     ] client: login refused user=app")


def test_a_log_that_cannot_be_written_stops_nobody_and_says_so_later() -> None:
    code = """
    import os
    set_up_logs(LogOptions(format="json"))
    kept = os.dup(2)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, 2)
    for _ in range(3):
        client.info("login refused", user="app")
    os.dup2(kept, 2)
    client.info("client is gone", user="app")
    """
    told = lines(code)
    assert [line["id"] for line in told] == ["client_gone", "lines_lost"]
    assert told[1]["lines"] == 3


def test_a_slow_reader_gets_whole_lines() -> None:
    code = """
    import os, threading, time
    read, write = os.pipe()
    os.set_blocking(write, False)
    os.dup2(write, 2)
    set_up_logs(LogOptions(format="json", event_rate_max=0))
    got = []
    def slow():
        while chunk := os.read(read, 1500):
            got.append(chunk)
            time.sleep(0.0005)
    os.close(write)
    reader = threading.Thread(target=slow)
    reader.start()
    for number in range(300):
        client.info("login refused", user="x" * 1000, why=number)
    os.close(2)
    reader.join()
    import json
    lines = [json.loads(line) for line in b"".join(got).splitlines()]
    print([line["why"] for line in lines if "why" in line] == list(range(300)))
    """
    done = subprocess.run(
        [sys.executable, "-c", HEAD + textwrap.dedent(code)], stdout=subprocess.PIPE, text=True, timeout=60, check=True
    )
    assert done.stdout == "True\n"
