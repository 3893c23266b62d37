"""`pointsman serve` as processes that follow each other: what passes from one to the next, and whoever dies meanwhile.

Without nodes: what clients see is in tests/integration/test_online_restart.py.
"""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from middleware.errors import PointsmanError
from middleware.supervisor.restarting import Restarting
from middleware.supervisor.succession import Succession
from tests.supervisor.conftest import DEADLINE_S
from tests.supervisor.line import Line, alive, ask_for_tls, connect, free_port


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    one = Line(tmp_path)
    try:
        yield one
    finally:
        one.end()


# What passes


def test_the_next_has_the_sockets_the_files_and_the_control_socket(line: Line) -> None:
    line.serve()
    paths = [line.directory / "control", line.directory / f".s.PGSQL.{line.port}"]
    inodes = [path.stat().st_ino for path in paths]
    waiting = connect(line)
    done = line.command("restart")
    assert done.returncode == 0, done.stderr
    pid = line.serving_pid()
    assert done.stdout == f"process {pid} has taken over; the process before has 0 clients left\n"
    assert pid != line.process.pid
    assert [path.stat().st_ino for path in paths] == inodes
    with waiting, connect(line) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.connect(str(paths[1]))
        assert [ask_for_tls(one) for one in (waiting, tcp, unix)] == [b"N"] * 3
    # Started by a shell, which waits for the first: it ends with the last, and as that.
    time.sleep(1)
    assert line.process.poll() is None
    line.process.terminate()
    assert line.process.wait(DEADLINE_S) == 0
    assert not alive(pid)
    assert [path.exists() for path in paths] == [False, False]


def test_workers_have_places_of_their_own_in_memory_that_all_share(line: Line) -> None:
    line.configure(workers=2)
    line.serve()
    with connect(line) as newcomer:
        # It has said nothing yet, and may still log in to the process that it has come to.
        line.configure(workers=3)
        second = line.restart()
        assert len(line.status()["workers"]) == 3
        assert ask_for_tls(newcomer) == b"N"
    line.until(lambda: line.happened("alone"), "the first to have no clients")
    line.configure(workers=1)
    third = line.restart()
    assert line.serving_pid() == third
    line.until(lambda: len(line.happened("alone")) == 2, "the second to have no clients")
    assert not line.happened("not_handed_over")
    assert alive(second), "it waits for what it has started"


def test_another_port_and_no_unix_socket_are_told_of(line: Line) -> None:
    line.serve()
    before, line.port = line.port, free_port()
    text = (line.directory / "pointsman.toml").read_text()
    text = text.replace(str(before), str(line.port)).replace("unix_socket_dir", "#")
    (line.directory / "pointsman.toml").write_text(text)
    line.restart()
    with connect(line) as one:
        assert ask_for_tls(one) == b"N"
    gone = [said["address_bound"] for said in line.logged("nobody listens any more where this Pointsman did")]
    assert gone == [f"127.0.0.1:{before}", f"{line.directory}/.s.PGSQL.{before}"]
    assert not (line.directory / f".s.PGSQL.{before}").exists()
    with socket.socket() as one:
        line.until(lambda: one.connect_ex(("127.0.0.1", before)) != 0, "the old port to be closed")


def test_the_port_of_a_free_one_is_kept(line: Line) -> None:
    line.configure(port=0)
    line.serve()
    line.port = line.logged("listening")[0]["port"]
    line.restart()
    assert {said["port"] for said in line.logged("listening") if "port" in said} == {line.port}
    with connect(line) as one:
        assert ask_for_tls(one) == b"N"


# What fails changes nothing


def test_settings_that_are_wrong_are_said_to_who_has_asked(line: Line) -> None:
    line.serve()
    line.configure(more="pool_mode = 'sometimes'")
    assert "pool_mode" in line.ask("restart")["error"]["detail"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        line.configure(more=f"http_port = {taken.getsockname()[1]}")
        error = line.ask("restart")["error"]
        assert error["message"] == "the next process has not taken over: this one goes on as before"
        assert "http_port: could not listen on 127.0.0.1" in error["detail"]
    assert line.serving_pid() == line.process.pid
    with connect(line) as one:
        assert ask_for_tls(one) == b"N"
    line.configure(workers=2)
    assert line.restart() == line.serving_pid()


def test_who_is_kept_from_a_database_is_kept_from_it_by_the_next(line: Line) -> None:
    line.serve()
    assert line.command("disable", "app").returncode == 0
    pid = line.restart()
    assert line.serving_pid() == pid
    again = line.command("show", "databases", "--json")
    (app,) = [row for row in json.loads(again.stdout) if row["name"] == "app"]
    assert app["disabled"]


def test_one_that_dies_before_it_serves_was_never_there(line: Line) -> None:
    line.serve()
    other = line.start("--take-over")
    line.until(lambda: len(line.logged("listening")) > 2, "the other to begin")
    other.kill()
    other.wait()
    line.until(lambda: line.happened("not_handed_over"), "it to be noticed")
    assert line.serving_pid() == line.process.pid
    with connect(line) as one:
        assert ask_for_tls(one) == b"N"
    pid = line.restart()
    assert line.serving_pid() == pid


def test_one_that_ends_before_it_has_taken_over_ends_alone(line: Line) -> None:
    line.serve()
    with socket.socket(socket.AF_UNIX) as other:
        other.settimeout(DEADLINE_S)
        other.connect(str(line.directory / "control"))
        other.sendall(b'{"do": "take_over", "protocol": 1, "version": "0", "layout": "another"}\n')
        heard, descriptors, _, _ = socket.recv_fds(other, 1, 16)
        for descriptor in descriptors:
            os.close(descriptor)
        while not heard.endswith(b"\n"):
            heard += other.recv(65536)
        assert b'"handed"' in heard
        for word in (b'{"say": "end"}\n', b'{"say": "end_with_servers"}\n'):
            other.sendall(word)
        line.until(lambda: len(line.logged("another Pointsman has said something at the wrong time")) == 2, "both")
    line.until(lambda: line.happened("not_handed_over"), "it to be noticed")
    assert not line.logged("shutting down")
    with connect(line) as one:
        assert ask_for_tls(one) == b"N"
    line.restart()


def test_only_one_takes_over_at_a_time(line: Line) -> None:
    line.serve()
    stopped = line.start("--take-over")
    line.until(lambda: len(line.logged("listening")) > 2, "the other to begin")
    stopped.send_signal(signal.SIGSTOP)
    assert line.ask("restart")["error"]["sqlstate"] == "55006"
    # It may know already that nothing is paused here: RESUME would be said there, and never come here.
    refused = line.command("pause")
    assert (refused.returncode, "an online restart is going on" in refused.stderr) == (1, True)
    assert line.command("show", "version").returncode == 0
    third = line.start("--take-over")
    assert third.wait(DEADLINE_S) == 1
    stopped.kill()
    stopped.wait()
    line.until(lambda: line.happened("not_handed_over"), "it to be noticed")
    line.restart()


@pytest.mark.anyio
async def test_one_that_is_to_end_starts_no_other() -> None:
    restarting = Restarting(("pointsman",), dict, False, Succession(None), lambda: None, lambda: 0, lambda: True)
    with pytest.raises(PointsmanError, match="Pointsman is shutting down"):
        await restarting.restart()


def test_one_whose_predecessor_dies_meanwhile_goes_on_alone(line: Line) -> None:
    line.serve()
    with connect(line) as waiting:
        other = line.start("--take-over")
        line.until(lambda: len(line.logged("listening")) > 2, "the other to begin")
        line.process.kill()
        line.process.wait()
        line.until(lambda: line.happened("took_over"), "the other to serve")
        assert line.serving_pid() == other.pid
        # It had been accepted by a worker that is gone.
        assert waiting.recv(1) == b""
    with connect(line) as one:
        assert ask_for_tls(one) == b"N"
    other.terminate()
    assert other.wait(DEADLINE_S) == 0


def test_without_one_to_take_over_from_it_starts_as_the_first(line: Line) -> None:
    line.process = line.start("--take-over")
    line.until(lambda: line.logged("ready"), "ready")
    assert line.logged("there is no Pointsman to take over from")
    assert line.serving_pid() == line.process.pid


def test_one_that_was_killed_after_it_had_handed_over_costs_its_own_clients_alone(line: Line) -> None:
    line.serve(NOTIFY_SOCKET=str(line.directory / "nobody"))
    with connect(line) as of_the_first:
        line.restart()
        with connect(line) as of_the_second:
            assert ask_for_tls(of_the_first) == b"N"
            line.process.kill()
            line.process.wait()
            assert of_the_first.recv(1) == b""
            line.until(lambda: line.happened("alone"), "it to be noticed")
            assert ask_for_tls(of_the_second) == b"N"
    line.restart()


# When the one before ends


def test_its_clients_have_restart_timeout_to_go(line: Line) -> None:
    line.configure(more="restart_timeout = 1.5\nclient_login_timeout = 60")
    line.serve(NOTIFY_SOCKET=str(line.directory / "nobody"))
    with connect(line) as client:
        began = time.monotonic()
        line.restart()
        line.until(lambda: line.process.poll() == 0, "the first to end")
        assert time.monotonic() - began > 1.5
        assert line.logged("restart_timeout is over")
        told = client.recv(1000)
        assert told == b"" or b"57P01" in told


def test_a_signal_that_both_have_got_is_no_second_one(line: Line) -> None:
    line.configure(more="client_login_timeout = 60")
    line.serve(NOTIFY_SOCKET=str(line.directory / "nobody"))
    (worker,) = [one["pid"] for one in line.status()["workers"]]
    with connect(line):
        second = line.restart()
        # It stands still: it is killed where somebody says twice that all is to end.
        os.kill(worker, signal.SIGSTOP)
        os.kill(second, signal.SIGTERM)
        line.until(lambda: [one for one in line.logged("shutting down") if one["by"] == "online restart"], "the word")
        line.process.terminate()
        line.until(lambda: len(line.logged("received signal")) == 2, "its own signal")
        os.kill(worker, signal.SIGCONT)
        line.until(lambda: line.process.poll() is not None and not alive(second), "both to end")
    assert not line.logged("workers killed before they had drained")


def test_the_end_of_the_last_is_the_end_of_all(line: Line) -> None:
    line.configure(more="client_login_timeout = 60")
    line.serve(NOTIFY_SOCKET=str(line.directory / "nobody"))
    with connect(line):
        second = line.restart()
        with connect(line):
            third = line.restart()
            assert [alive(pid) for pid in (line.process.pid, second, third)] == [True] * 3
            os.kill(third, signal.SIGTERM)
            line.until(lambda: line.process.poll() is not None and not alive(second) and not alive(third), "all to end")
            assert line.process.poll() == 0
