"""A text of the console's, cut into statements and words as PostgreSQL's lexer would."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from middleware.admin.words import statements_of
from middleware.errors import PointsmanError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SHOW POOLS", [[("word", "SHOW"), ("word", "POOLS")]]),
        ("  show pools ;\n", [[("word", "show"), ("word", "pools")]]),
        ("SHOW POOLS; SHOW STATS;;", [[("word", "SHOW"), ("word", "POOLS")], [("word", "SHOW"), ("word", "STATS")]]),
        ("", []),
        (" ; ;", []),
        ("-- nothing\n/* at /* all */ */;", []),
        ("SHOW--x\nPOOLS", [[("word", "SHOW"), ("word", "POOLS")]]),
        ("SHOW/**/POOLS", [[("word", "SHOW"), ("word", "POOLS")]]),
        ('PAUSE "a ""b"" ;--c"', [[("word", "PAUSE"), ("name", 'a "b" ;--c')]]),
        ("DETACH NODE db-1.eu", [[("word", "DETACH"), ("word", "NODE"), ("word", "db-1.eu")]]),
        ("SET a = 'it''s;'", [[("word", "SET"), ("word", "a"), ("sign", "="), ("string", "it's;")]]),
        ("SET a=-5", [[("word", "SET"), ("word", "a"), ("sign", "="), ("sign", "-"), ("number", "5")]]),
        ("SET a = 0.25", [[("word", "SET"), ("word", "a"), ("sign", "="), ("number", "0.25")]]),
        ("SET a = 10ms", [[("word", "SET"), ("word", "a"), ("sign", "="), ("word", "10ms")]]),
        (r"SELECT E'a\'b', $1, $$x;y$$, $t$ $$ $t$", None),
        ("KILL_CLIENT 17", [[("word", "KILL_CLIENT"), ("number", "17")]]),
        ("PAUSE größe", [[("word", "PAUSE"), ("word", "größe")]]),
    ],
)
def test_statements(text: str, expected: list[list[tuple[str, str]]] | None) -> None:
    found = [[(word.kind, word.text) for word in one.words] for one in statements_of(text)]
    if expected is None:
        expected = [
            [
                ("word", "SELECT"),
                ("string", "a'b"),
                ("sign", ","),
                ("parameter", "1"),
                ("sign", ","),
                ("string", "x;y"),
                ("sign", ","),
                ("string", " $$ "),
            ]
        ]
    assert found == expected


def test_a_statement_keeps_its_text() -> None:
    assert [one.text for one in statements_of(" show pools ;/* a */ pause x; ")] == ["show pools", "/* a */ pause x"]


@pytest.mark.parametrize("text", ["PAUSE 'a", 'PAUSE "a', "SHOW /* a", "SELECT $$a", "SELECT $a$ $$"])
def test_what_does_not_end_is_an_error(text: str) -> None:
    with pytest.raises(PointsmanError, match="unterminated") as caught:
        statements_of(text)
    assert caught.value.sqlstate == "42601"


@given(st.text(alphabet=st.sampled_from("aZ9_.-;:=,'\"$/*\\ \n\t()[]é\0"), max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    statements = []
    with contextlib.suppress(PointsmanError):
        statements = statements_of(text)
    assert all(one.words for one in statements)


@given(st.text(max_size=30))
def test_a_quoted_name_is_itself(name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    [statement] = statements_of(f"PAUSE {quoted};")
    assert [(word.kind, word.text) for word in statement.words] == [("word", "PAUSE"), ("name", name)]
