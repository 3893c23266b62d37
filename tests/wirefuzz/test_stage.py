"""Properties of byte streams, by the stage: how they are cut changes nothing, and any bytes come to an orderly end."""

import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.chunks import CUTS, cut
from tests.wirefuzz.corpus import DRIVERS, LOGINS, Session, startup
from tests.wirefuzz.mutate import Ending, Input, Pace, mutated
from tests.wirefuzz.stage import Stage

PACES = (Pace.WHOLE, Pace.TURN, Pace.BYTES, Pace.RANDOM)
STATELESS = [one for one in DRIVERS if one.messages]


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with Stage() as one:
        yield one


def heard(stage: Stage, one: Input) -> list[str]:
    client = stage.play(one)
    assert stage.faults == []
    return client.words(client.welcomed() if client.welcomed() >= 0 else client.answers_to_requests())


@pytest.mark.parametrize("session", STATELESS, ids=lambda session: session.name.replace(" ", "-"))
def test_how_a_session_is_cut_changes_no_answer(stage: Stage, session: Session) -> None:
    by_messages = heard(stage, Input(session.name, session.login, session.messages))
    for pace in PACES:
        assert heard(stage, Input(session.name, session.login, session.messages, pace=pace, seed=1)) == by_messages


@pytest.mark.parametrize("session", LOGINS, ids=lambda session: session.name.replace(" ", "-"))
def test_every_way_in_comes_to_an_end(stage: Stage, session: Session) -> None:
    for ending in Ending:
        heard(stage, Input(session.name, session.login, session.messages, ending, legal_login=False))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), CUTS, st.sampled_from(Ending))
def test_any_bytes_instead_of_a_login(stage: Stage, data: bytes, cuts: list[int], ending: Ending) -> None:
    heard_or_not(stage, Input("bytes", tuple(cut(data, cuts)), (), ending, legal_login=False))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), CUTS, st.sampled_from(Ending))
def test_any_bytes_behind_a_login(stage: Stage, data: bytes, cuts: list[int], ending: Ending) -> None:
    heard_or_not(stage, Input("bytes", (startup(),), tuple(cut(data, cuts)), ending))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(STATELESS), st.integers(0, 2**32), CUTS)
def test_a_mutated_session_is_answered_the_same_however_it_is_cut(
    stage: Stage, session: Session, seed: int, cuts: list[int]
) -> None:
    pieces, _ = mutated(random.Random(seed), list(session.messages))
    # Each is compared with the same without Pointsman.
    heard_or_not(stage, Input("whole", session.login, tuple(pieces), pace=Pace.WHOLE))
    heard_or_not(stage, Input("cut", session.login, tuple(cut(b"".join(pieces), cuts))))


def heard_or_not(stage: Stage, one: Input) -> None:
    stage.play(one)
    assert stage.faults == []
