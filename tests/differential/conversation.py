"""A scenario held with one peer, as values that two peers' can be compared by."""

from middleware.wire.backend import BackendKeyData, ErrorResponse, NoticeResponse, NotificationResponse
from middleware.wire.fields import Message
from tests.differential.raw_client import Address, Ending, RawClient
from tests.differential.scenarios import Scenario

Answer = tuple[tuple[Message | str, ...], Ending]

SOURCE = (b"F", b"L", b"R")
"""Where in PostgreSQL's source a report comes from: the build's own."""


def hold(scenario: Scenario, address: Address) -> list[Answer]:
    """What the peer answers to each step."""
    answers: list[Answer] = []
    with RawClient(address) as client:
        _, ending = client.log_in()
        assert ending is Ending.ENOUGH
        for step in scenario.steps:
            client.send(step.send)
            if step.half_close:
                client.half_close()
            came, ending = client.read(step.number, step.kind)
            answers.append((tuple(map(comparable, came)), ending))
            if ending is not Ending.ENOUGH:
                break
    if scenario.difference:
        answers[-1] = (), answers[-1][1]
    return answers


def comparable(message: Message) -> Message | str:
    """A message without what is each backend's own: its process id, its source."""
    if isinstance(message, BackendKeyData):
        return "a key"
    if isinstance(message, NotificationResponse):
        return NotificationResponse(0, message.channel, message.payload)
    if isinstance(message, ErrorResponse | NoticeResponse):
        return type(message)(tuple(field for field in message.fields if field[0] not in SOURCE))
    return message
