"""Which requests of a browser are our own page's."""

import pytest

from middleware.web.door import comes_from_here, foreign_host, foreign_origin, is_loopback

LOOPBACK = "127.0.0.1"
NETWORK = "10.0.0.5"


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:9127",
        "LOCALHOST",
        "a.localhost:80",
        "127.0.0.1:9127",
        "[::1]:9127",
        "10.0.0.5",
        "127.9.9.9",
    ],
)
@pytest.mark.parametrize("local", [LOOPBACK, "::1", NETWORK])
def test_addresses_and_localhost_are_no_names_of_strangers(host: str, local: str) -> None:
    assert foreign_host(host, local=local, known=()) == ""


@pytest.mark.parametrize(
    "host",
    [
        "evil.example:9127",
        "evil.example",
        "localhost.evil.example",
        "notlocalhost",
        "127.0.0.1.evil.example",
        "0x7f000001.evil.example",
        "",
        "[::1",
        "localhost:9127@evil.example",
        "evil.example:80:80",
        "pointsman.example/",
    ],
)
def test_a_name_that_was_made_to_point_to_loopback_is_refused(host: str) -> None:
    assert foreign_host(host, local=LOOPBACK, known=()) != ""
    assert foreign_host(host, local="::ffff:127.0.0.1", known=("db.example",)) != ""


def test_known_names_are_answered_and_with_some_known_no_others() -> None:
    assert foreign_host("Pointsman.example:443", local=LOOPBACK, known=("pointsman.Example",)) == ""
    assert foreign_host("pointsman.example.", local=LOOPBACK, known=("pointsman.example",)) == ""
    assert foreign_host("evil.example", local=NETWORK, known=("pointsman.example",)) != ""
    # Beyond loopback it is not known how others call us.
    assert foreign_host("db-host.example", local=NETWORK, known=()) == ""


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({"Host": "localhost:9127"}, True),  # no browser
        ({"Host": "localhost:9127", "Origin": "http://localhost:9127", "Sec-Fetch-Site": "same-origin"}, True),
        ({"Host": "Pointsman.example", "Origin": "https://pointsman.example"}, True),  # TLS ends before us
        ({"Host": "localhost:9127", "Origin": "http://localhost:8000"}, False),
        ({"Host": "localhost:9127", "Origin": "http://localhost"}, False),
        ({"Host": "localhost:9127", "Origin": "null"}, False),
        ({"Host": "localhost:9127", "Origin": ""}, False),
        ({"Host": "localhost:9127", "Origin": "http://["}, False),
        ({"Host": "localhost:9127", "Sec-Fetch-Site": "same-site"}, False),
        ({"Host": "localhost:9127", "Sec-Fetch-Site": "cross-site"}, False),
        ({"Host": "localhost:9127", "Sec-Fetch-Site": "none"}, False),
        ({"Host": "localhost:9127", "Origin": "http://localhost:9127", "Sec-Fetch-Site": "cross-site"}, False),
        ({"Host": "", "Origin": "http://"}, False),
    ],
)
def test_what_does_something_comes_from_our_own_page(headers: dict[str, str], allowed: bool) -> None:
    assert (foreign_origin(headers) == "") == allowed


def test_who_asks_for_another_is_not_from_here() -> None:
    assert comes_from_here("127.0.0.1", {})
    assert comes_from_here("::1", {})
    assert not comes_from_here("10.0.0.7", {})
    assert not comes_from_here("", {})
    for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP", "Via"):
        assert not comes_from_here("127.0.0.1", {header: "127.0.0.1"})


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("fe80::1%lo", False),
        ("0.0.0.0", False),
        ("", False),
    ],
)
def test_loopback(address: str, expected: bool) -> None:
    assert is_loopback(address) == expected
