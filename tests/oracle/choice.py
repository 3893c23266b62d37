"""Which statements are sent through an endpoint, in which forms, and what together."""

import random
from collections.abc import Iterator, Sequence
from typing import Final

from tests.oracle.corpus import corpus
from tests.oracle.forms import OF_SEVERAL, Form, changes_schema, forms_for
from tests.oracle.generate import Generator
from tests.oracle.statement import Statement, Where

TOGETHER_MAX: Final = 4
READS_CHANCE: Final = 0.4
"""Of nothing but reads, in a conversation: one hazard sends a whole pipeline to the primary."""
GENERATED_CHANCE: Final = 0.3
GROUP_CHANCE: Final = 0.5


def chosen(count: int, seed: int) -> Iterator[tuple[Form, list[Statement]]]:
    """`count` statements, hand-written and composed, each with the form it is to be sent in and with its company."""
    choice = random.Random(seed)
    generator = Generator(seed)
    hand_written = [statement for statement in corpus() if statement.callable]
    reads = [statement for statement in hand_written if statement.where is Where.STANDBY]
    while count > 0:
        among = reads if choice.random() < READS_CHANCE else hand_written

        def one(among: Sequence[Statement] = among) -> Statement:
            if choice.random() < GENERATED_CHANCE:
                made = generator.statement()
                return made if made.where is Where.STANDBY or among is hand_written else choice.choice(among)
            # By group, too: most of the corpus is the same few expressions in many places.
            return choice.choice(choice.choice(_by_group(among)) if choice.random() < GROUP_CHANCE else among)

        first = one()
        form = choice.choice(forms_for(first))
        together = [first]
        if form in OF_SEVERAL:
            others = [one() for _ in range(choice.randint(1, TOGETHER_MAX - 1))]
            together += [other for other in others if form in forms_for(other) and fits(first, other)]
            choice.shuffle(together)
        count -= len(together)
        yield form, together


def _by_group(statements: Sequence[Statement]) -> list[list[Statement]]:
    groups: dict[str, list[Statement]] = {}
    for statement in statements:
        groups.setdefault(statement.group, []).append(statement)
    return list(groups.values())


def fits(first: Statement, other: Statement) -> bool:
    """Whether they can be sent together: one session, and one change of the schema to be undone at most."""
    return first.user == other.user and not changes_schema(other)
