"""The decisions of a pool, without connections."""

from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from middleware.pool.plan import BACK_OFF_MAX, Plan, Waiter


def waiter(name: str, since: float = 0.0, deadline: float = 10.0, notify_at: float = 0.0) -> Waiter[str]:
    return Waiter(name, since, deadline, notify_at)


def test_the_server_given_back_last_is_lent_first() -> None:
    plan: Plan[str, str] = Plan(2)
    plan.idle = [("old", 1.0), ("new", 2.0)]
    assert plan.take() == ("new", 2.0)


def test_nobody_overtakes_those_who_wait() -> None:
    plan: Plan[str, str] = Plan(1)
    plan.waiting.append(waiter("first"))
    plan.idle = [("server", 0.0)]
    assert plan.take() is None
    assert plan.next_client() == "first"
    assert plan.take() == ("server", 0.0)


def test_one_server_is_opened_for_each_who_waits_up_to_the_size() -> None:
    plan: Plan[str, str] = Plan(3)
    for name in "abcde":
        plan.waiting.append(waiter(name))
    assert plan.openings(0.0) == 3
    plan.on_the_way = 1
    assert plan.openings(0.0) == 2
    plan.on_the_way = 0
    plan.lent = {"x", "y"}
    assert plan.openings(0.0) == 1


def test_no_opening_while_the_last_has_just_failed_or_when_closed() -> None:
    plan: Plan[str, str] = Plan(1)
    plan.waiting.append(waiter("a"))
    plan.failing_until = 5.0
    assert plan.openings(4.9) == 0
    assert plan.openings(5.0) == 1
    plan.closed = True
    assert plan.openings(5.0) == 0
    plan.closed, plan.paused = False, True
    assert plan.openings(5.0) == 0
    assert len(plan.waiting) == 1


def test_those_who_waited_too_long_leave_in_order() -> None:
    plan: Plan[str, str] = Plan(1)
    plan.waiting.extend([waiter("a", deadline=1.0), waiter("c", deadline=3.0), waiter("b", deadline=2.0)])
    assert plan.overdue(2.0) == ["a", "b"]
    assert plan.give_up("c")
    assert not plan.give_up("c")


def test_servers_idle_for_too_long_are_named() -> None:
    plan: Plan[str, str] = Plan(3)
    plan.idle = [("a", 0.0), ("b", 0.5), ("c", 5.0)]
    assert plan.stale(6.0, 5.0, 1) == ["a"]
    assert plan.stale(6.0, 5.0, 9) == ["b"]
    assert plan.idle == [("c", 5.0)]


def test_the_reserve_is_for_those_who_have_waited_for_long() -> None:
    plan: Plan[str, str] = Plan(1, 2, 5.0)
    plan.lent = {"x"}
    plan.waiting.extend([waiter("a", since=1.0), waiter("b", since=2.0), waiter("c", since=3.0)])
    assert [plan.openings(now) for now in (1.0, 5.9, 6.0)] == [0, 0, 2]


def test_openings_that_go_on_failing_are_tried_more_and_more_seldom() -> None:
    plan: Plan[str, str] = Plan(1)
    delays = []
    for _ in range(7):
        plan.opening_failed(100.0, 2.0)
        delays.append(plan.failing_until - 100.0)
    assert delays == [2.0, 4.0, 8.0, 16.0, 2.0 * BACK_OFF_MAX, 2.0 * BACK_OFF_MAX, 2.0 * BACK_OFF_MAX]
    plan.opening_succeeded()
    assert plan.failing_until == 0.0
    plan.opening_failed(100.0, 2.0)
    assert plan.failing_until == 102.0


def test_who_waits_for_long_is_told_once() -> None:
    plan: Plan[str, str] = Plan(1)
    plan.waiting.extend([waiter("a", notify_at=3.0), waiter("b"), waiter("c", notify_at=4.0)])
    assert [plan.to_notify(now) for now in (2.9, 3.0, 5.0, 6.0)] == [[], ["a"], ["c"], []]


def test_servers_that_are_closing_hold_their_places() -> None:
    plan: Plan[str, str] = Plan(2)
    plan.waiting.extend([waiter("a"), waiter("b")])
    plan.closing = 1
    assert plan.openings(0.0) == 1


def test_administrators_are_served_first_and_beyond_the_size() -> None:
    plan: Plan[str, str] = Plan(1, 1, 5.0, 2)
    plan.lent = {"x"}
    plan.wait(waiter("a"))
    assert (plan.openings(0.0), plan.for_an_admin()) == (0, False)
    for name in ("admin", "second", "third", "fourth"):
        plan.wait(Waiter(name, 0.0, 10.0, 0.0, admin=True))
    plan.wait(waiter("b"))
    assert [one.client for one in plan.waiting] == ["admin", "second", "third", "fourth", "a", "b"]
    # The size, the reserve, and two: one is lent.
    assert (plan.openings(0.0), plan.for_an_admin()) == (3, True)
    plan.on_the_way = 3
    assert (plan.openings(0.0), plan.for_an_admin()) == (0, True)
    plan.on_the_way = 4
    assert not plan.for_an_admin()
    assert [plan.next_client() for _ in range(4)] == ["admin", "second", "third", "fourth"]
    assert (plan.openings(0.0), plan.for_an_admin()) == (0, False)


class Lending(RuleBasedStateMachine):
    """Clients come, wait and go; servers open, fail and are given back, as Pool does it."""

    def __init__(self) -> None:
        super().__init__()
        self.plan: Plan[int, int] = Plan(3)
        self.serial = 0
        self.order: list[int] = []

    @rule()
    def client_comes(self) -> None:
        self.serial += 1
        taken = self.plan.take()
        if taken is not None:
            self.plan.lent.add(taken[0])
            return
        self.plan.waiting.append(Waiter(self.serial, 0.0, 10.0, 0.0))
        self.order.append(self.serial)
        self.plan.on_the_way += self.plan.openings(0.0)

    @precondition(lambda self: self.plan.on_the_way)
    @rule()
    def server_opens(self) -> None:
        self.plan.on_the_way -= 1
        self.serial += 1
        self._offer(self.serial)

    @precondition(lambda self: self.plan.on_the_way)
    @rule()
    def opening_fails(self) -> None:
        self.plan.on_the_way -= 1
        self.plan.on_the_way += self.plan.openings(0.0)

    @precondition(lambda self: self.plan.lent)
    @rule()
    def server_comes_back(self) -> None:
        self._offer(self.plan.lent.pop())

    @precondition(lambda self: self.plan.waiting)
    @rule()
    def client_leaves(self) -> None:
        client = self.plan.waiting[-1].client
        assert self.plan.give_up(client)
        self.order.remove(client)

    def _offer(self, server: int) -> None:
        client = self.plan.next_client()
        if client is None:
            self.plan.idle.append((server, 0.0))
        else:
            assert client == self.order.pop(0)
            self.plan.lent.add(server)

    @invariant()
    def never_more_servers_than_the_size(self) -> None:
        assert self.plan.size() <= self.plan.size_max

    @invariant()
    def nobody_waits_while_a_server_is_idle(self) -> None:
        assert not (self.plan.idle and self.plan.waiting)

    @invariant()
    def whoever_waits_has_a_server_to_wait_for(self) -> None:
        assert not self.plan.waiting or self.plan.on_the_way or self.plan.lent


TestLending = Lending.TestCase
