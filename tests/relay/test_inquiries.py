"""Logins that wait for auth_query: asked once, told once, and asked again when an answer is lost."""

from middleware.relay.inquiries import ASK_AGAIN_S, Inquiries


class Login:
    def __init__(self) -> None:
        self.told: list[bool] = []
        self.there = True

    def waits(self) -> bool:
        return self.there

    def secret_arrived(self, failed: bool) -> None:
        self.told.append(failed)


def test_one_question_for_all_who_wait() -> None:
    asked: list[str] = []
    inquiries = Inquiries(asked.append)
    first, second, other = Login(), Login(), Login()
    inquiries.begin("ann", first, 0.0)
    inquiries.begin("ann", second, 1.0)
    inquiries.begin("bob", other, 1.0)
    assert asked == ["ann", "bob"]
    inquiries.end("ann", failed=False)
    inquiries.end("ann", failed=False)
    inquiries.end("eve", failed=False)
    assert (first.told, second.told, other.told) == ([False], [False], [])
    inquiries.end("bob", failed=True)
    assert other.told == [True]
    inquiries.begin("ann", first, 2.0)
    assert asked == ["ann", "bob", "ann"]


def test_a_lost_answer_is_asked_for_again_while_somebody_waits() -> None:
    asked: list[str] = []
    inquiries = Inquiries(asked.append)
    gone, stays = Login(), Login()
    inquiries.begin("ann", gone, 10.0)
    inquiries.begin("ann", stays, 12.0)
    inquiries.tick(10.0 + ASK_AGAIN_S - 0.1)
    assert asked == ["ann"]
    gone.there = False
    inquiries.tick(10.0 + ASK_AGAIN_S)
    inquiries.tick(10.0 + ASK_AGAIN_S + 1.0)
    assert asked == ["ann", "ann"]
    inquiries.end("ann", failed=False)
    assert (gone.told, stays.told) == ([], [False])


def test_nobody_is_asked_for_when_all_have_gone() -> None:
    asked: list[str] = []
    inquiries = Inquiries(asked.append)
    login = Login()
    inquiries.begin("ann", login, 0.0)
    login.there = False
    inquiries.tick(ASK_AGAIN_S)
    inquiries.tick(2 * ASK_AGAIN_S)
    assert asked == ["ann"]
    # Who comes then begins anew.
    inquiries.begin("ann", Login(), 20.0)
    assert asked == ["ann", "ann"]
