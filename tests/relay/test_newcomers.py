"""Who makes room where too many connections have not logged in."""

from structlog.testing import capture_logs

from middleware.relay.newcomers import Newcomers


class One:
    def __init__(self, name: str, gone: list[str], deadline: float = 10.0) -> None:
        self.name = name
        self.gone = gone
        self.deadline = deadline

    def late(self) -> None:
        self.gone.append(f"{self.name} is late")

    def make_room(self) -> None:
        self.gone.append(self.name)

    def terminate(self) -> None: ...


def test_the_one_that_is_silent_for_longest_makes_room() -> None:
    gone: list[str] = []
    there = Newcomers(3)
    a, b, c, d, e, f = (One(name, gone) for name in "abcdef")
    for one in (a, b, c):
        there.come(one)
    there.spoke(a)
    there.come(d)
    assert gone == ["b"]
    there.spoke(c)
    there.spoke(d)
    # Nobody is silent.
    there.come(e)
    assert gone == ["b", "a"]
    # Who has proved who it is counts no more.
    there.prove(c)
    there.come(f)
    assert gone == ["b", "a"]
    assert there.everybody() == [e, f, d, c]
    there.leave(e)
    there.leave(e)
    assert there.everybody() == [f, d, c]


def test_deadlines() -> None:
    gone: list[str] = []
    there = Newcomers(9)
    a, b, c = One("a", gone, 1.0), One("b", gone, 2.0), One("c", gone, 1.0)
    for one in (a, b, c):
        there.come(one)
    there.spoke(b)
    there.prove(c)
    there.tick(1.5)
    assert gone == ["a is late", "c is late"]


def test_the_log_is_told_once_a_second() -> None:
    there = Newcomers(1)
    with capture_logs() as told:
        for now in (0.0, 0.25, 0.5, 1.25):
            there.come(One("a", []))
            there.come(One("b", []))
            there.tick(now)
        there.tick(9.0)
    assert [(line["log_level"], line["closed"]) for line in told] == [("warning", 1), ("warning", 6)]
