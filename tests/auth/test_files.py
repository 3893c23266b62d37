"""pg_hba.conf, pg_ident.conf and userlist.txt: what is read of them, whom it lets in, and how a mistake is told."""

import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import pytest

from middleware.auth import FileMistake, HbaRule
from middleware.auth.hba import hba_rules, user_mappings
from middleware.auth.rules import Visitor, first_match, mapped
from middleware.auth.userlist import userlist


def written(directory: Path, text: str) -> str:
    path = directory / "file"
    path.write_text(text)
    return str(path)


RULES = r"""
# TYPE  DATABASE        USER            ADDRESS                 METHOD
local   all             postgres                                trust
host    replication     rep             all                     md5
hostssl "all",app       +x              1.2.3.4/32              scram-sha-256
host    app, "other db" ann,/^dev_.*$   10.0.0.0 255.0.0.0      password   # to the end
hostnossl sameuser      all             ::1/128                 reject
hostssl all             all             fe80:: ffff::           cert map=m clientname=DN
hostgssenc all          all             all                     gss
hostnogssenc all        "all"           all                     trust
host    all             @people         0.0.0.0/0 \
        scram-sha-256
""".replace("+x", "x")


def test_rules(tmp_path: Path) -> None:
    (tmp_path / "people").write_text("one, two\nthree # no more\n")
    file = written(tmp_path, RULES)
    found = [(rule.kind, rule.databases, rule.users, rule.networks, rule.method) for rule in hba_rules(file)]
    everybody = ("=all",)
    assert found == [
        ("local", everybody, ("postgres",), (), "trust"),
        ("host", ("=replication",), ("rep",), (), "md5"),
        ("hostssl", ("all", "app"), ("x",), ("1.2.3.4/32",), "scram-sha-256"),
        ("host", ("app", "other db"), ("ann", "/^dev_.*$"), ("10.0.0.0/8",), "password"),
        ("hostnossl", ("=sameuser",), everybody, ("::1/128",), "reject"),
        ("hostssl", everybody, everybody, ("fe80::/16",), "cert"),
        ("host", everybody, ("all",), (), "trust"),
        ("host", everybody, ("one", "two", "three"), ("0.0.0.0/0",), "scram-sha-256"),
    ]
    assert hba_rules(file)[5] == HbaRule(
        "hostssl", everybody, everybody, ("fe80::/16",), "cert", "m", "", "DN", f"{file}:8"
    )
    assert hba_rules(file)[-1].where == f"{file}:11"


@pytest.mark.parametrize("text", ["", "# trust\n\n", "hostgssenc all all all gss\n"])
def test_a_file_without_rules_is_a_mistake(tmp_path: Path, text: str) -> None:
    with pytest.raises(FileMistake, match="file: contains no entries"):
        hba_rules(written(tmp_path, text))


@pytest.mark.parametrize(
    ("visitor", "number"),
    [
        (Visitor("unix", False, "app", "postgres"), 0),
        (Visitor("unix", False, "app", "ann"), None),
        (Visitor("10.1.2.3", False, "app", "postgres"), None),
        (Visitor("9.9.9.9", False, "", "rep", replication=True), 1),
        (Visitor("9.9.9.9", False, "replication", "rep"), None),
        (Visitor("1.2.3.4", True, "app", "x"), 2),
        (Visitor("1.2.3.4", False, "app", "x"), None),
        (Visitor("1.2.3.4", True, "all", "x"), 2),
        (Visitor("10.255.0.1", True, "other db", "dev_eve"), 3),
        (Visitor("::ffff:10.0.0.1", False, "app", "ann"), 3),
        (Visitor("11.0.0.1", False, "app", "ann"), None),
        (Visitor("::1", False, "ann", "ann"), 4),
        (Visitor("::1", False, "app", "ann"), None),
        (Visitor("fe80::1%eth0", True, "x", "y"), 5),
        (Visitor("fe80::1", True, "", "y", replication=True), None),
        (Visitor("8.8.8.8", False, "x", "all"), 6),
        (Visitor("8.8.8.8", True, "x", "three"), 7),
    ],
)
def test_who_is_let_in_by_which(tmp_path: Path, visitor: Visitor, number: int | None) -> None:
    (tmp_path / "people").write_text("one, two\nthree\n")
    rules = hba_rules(written(tmp_path, RULES))
    found = first_match(rules, visitor)
    assert found == (None if number is None else rules[number])


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("hosts all all all trust", '1: "hosts" is not a connection type: local, host, hostssl'),
        ("host all", "1: the databases and the users are missing"),
        ("\n\nhost all all", "3: the address is missing"),
        ("host all all all", "1: the method is missing"),
        ("host all all 10.0.0.0/8 ident", '1: method "ident" is not supported: trust, reject, password'),
        ("host all all 10.0.0.0/8 peer", '1: method "peer" needs the connection type local'),
        ("local all all ldap", '1: method "ldap" is not supported'),
        ("local all all pam", '1: method "pam" is not supported'),
        ("host all all all radius", '1: method "radius" is not supported'),
        ("host all all all gss", '1: method "gss" is not supported'),
        ("host all all all sspi", '1: method "sspi" is not supported'),
        ("host all all .example.com trust", '1: ".example.com" is not an address; host names are not supported'),
        ("host all all ten trust", '1: "ten" is not an address; host names are not supported'),
        ("host all all 10.0.0.0 trust", '1: "trust" is not a mask'),
        ("host all all 10.0.0.0 255.0.255.0 trust", '1: "255.0.255.0" is not a mask'),
        ("host all all 10.0.0.0 ffff:: trust", '1: "ffff::" is not a mask'),
        ("host all all 10.0.0.0/33 trust", '1: "10.0.0.0/33" is not a network'),
        ("host samerole all all trust", '1: "samerole" is not supported'),
        ("host all +admins all trust", '1: "+admins" is not supported: membership in roles is not known here'),
        ("host all /( all trust", '1: "/(" is not a regular expression'),
        ("host all all all cert", '1: method "cert" needs the connection type hostssl'),
        ("host all all all md5 clientcert=verify-ca", "1: clientcert needs the connection type hostssl"),
        ("hostssl all all all md5 clientcert=yes", "1: clientcert must be verify-ca or verify-full"),
        ("hostssl all all all md5 map=m", '1: map needs the method "cert" or "peer"'),
        ("hostssl all all all cert ldapserver=x", '1: option "ldapserver=x" is not supported'),
        ('host "all all all trust', "1: a quote is not closed"),
        ("host,local all all all trust", "1: the connection type must be one word, without a comma"),
        ("include nothing", "nothing: no such file or directory"),
        ("include file", "file: files include each other more than 10 deep"),
        ("host @file all all trust", "file: files include each other more than 10 deep"),
        ("include_dir nowhere", "1: "),
    ],
)
def test_mistakes_in_rules(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(FileMistake) as refused:
        hba_rules(written(tmp_path, text))
    assert what in str(refused.value)
    assert str(refused.value).startswith(str(tmp_path))


DEBIAN: Final = """\
# Database administrative login by Unix domain socket
local   all             postgres                                peer
# TYPE  DATABASE        USER            ADDRESS                 METHOD
# "local" is for Unix domain socket connections only
local   all             all                                     peer
# IPv4 local connections:
host    all             all             127.0.0.1/32            scram-sha-256
# IPv6 local connections:
host    all             all             ::1/128                 scram-sha-256
# Allow replication connections from localhost, by a user with the
# replication privilege.
local   replication     all                                     peer
host    replication     all             127.0.0.1/32            scram-sha-256
host    replication     all             ::1/128                 scram-sha-256
"""


def test_the_file_that_debian_installs(tmp_path: Path) -> None:
    methods = [rule.method for rule in hba_rules(written(tmp_path, DEBIAN))]
    assert methods == ["peer", "peer", "scram-sha-256", "scram-sha-256", "peer", "scram-sha-256", "scram-sha-256"]


def test_own_addresses_and_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def one(family: int, address: str, netmask: str | None) -> SimpleNamespace:
        return SimpleNamespace(family=family, address=address, netmask=netmask)

    found = {
        "lo": [one(socket.AF_INET, "127.0.0.1", "255.0.0.0"), one(socket.AF_PACKET, "00:00:00:00:00:00", None)],
        "eth0": [
            one(socket.AF_INET, "10.1.2.3", "255.255.0.0"),
            one(socket.AF_INET6, "fe80::5%eth0", "ffff:ffff:ffff:ffff::"),
        ],
        "tun0": [one(socket.AF_INET, "10.9.9.9", None), one(socket.AF_INET, "10.9.9.8", "0.0.0.0")],
    }
    monkeypatch.setattr("psutil.net_if_addrs", lambda: found)
    text = "host all all samehost trust\nhost all all samenet trust\n"
    hosts, nets = (rule.networks for rule in hba_rules(written(tmp_path, text)))
    assert hosts == ("127.0.0.1/32", "10.1.2.3/32", "fe80::5/128", "10.9.9.9/32", "10.9.9.8/32")
    assert nets == ("127.0.0.0/8", "10.1.0.0/16", "fe80::/64", "10.9.9.9/32", "10.9.9.8/32")
    monkeypatch.setattr("psutil.net_if_addrs", lambda: {"eth0": found["lo"][1:]})
    with pytest.raises(FileMistake, match="file:1: this machine has no addresses"):
        hba_rules(written(tmp_path, text))


def test_own_addresses_are_found(tmp_path: Path) -> None:
    (rule,) = hba_rules(written(tmp_path, "host all all samehost trust\n"))
    assert "127.0.0.1/32" in rule.networks


def test_a_file_includes_others_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    for name in ("b.conf", "a.conf", ".hidden.conf", "other"):
        (tmp_path / "parts" / name).write_text(f"host {name} all all trust\n")
    text = "host x all all trust\ninclude_dir parts\ninclude_if_exists none\nhost y all all trust\n"
    assert [rule.databases[0] for rule in hba_rules(written(tmp_path, text))] == ["x", "a.conf", "b.conf", "y"]


MAPS = r"""
m  ann@example  ann
m  /^(.*)@example$  \1
m  /^root$  all
n  bob  "all"
n  /^x  /^dev_
"""


@pytest.mark.parametrize(
    ("name", "certified", "user", "may"),
    [
        ("", "ann", "ann", True),
        ("", "ann", "bob", False),
        ("m", "ann@example", "ann", True),
        ("m", "bob@example", "bob", True),
        ("m", "bob@example", "ann", False),
        ("m", "root", "anyone", True),
        ("m", "bob", "bob", False),
        ("n", "bob", "all", True),
        ("n", "bob", "ann", False),
        ("n", "xy", "dev_a", True),
        ("n", "xy", "a_dev_", False),
        ("none", "ann", "ann", False),
    ],
)
def test_maps(tmp_path: Path, name: str, certified: str, user: str, may: bool) -> None:
    assert mapped(user_mappings(written(tmp_path, MAPS)), name, certified, user) == may


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("m", "1: the system user is missing"),
        ("m a", "1: the database user is missing"),
        ("m /( a", '1: "/(" is not a regular expression'),
        ("m a +b", '1: "+b" is not supported'),
        (r"m a \1", "needs an expression with parentheses"),
    ],
)
def test_mistakes_in_maps(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(FileMistake) as refused:
        user_mappings(written(tmp_path, text))
    assert what in str(refused.value)


def test_userlist(tmp_path: Path) -> None:
    text = '; a comment\n"ann" "se""cret" "more"\n\n  "b ob"\t"md5x"\n"nopass" ""\n'
    assert userlist(written(tmp_path, text)) == {"ann": 'se"cret', "b ob": "md5x", "nopass": None}
    for wrong in ('"ann"', 'ann "x"', '"" "x"', '"ann "x"'):
        with pytest.raises(FileMistake, match=":1: "):
            userlist(written(tmp_path, wrong))


def test_what_the_documentation_shows(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "authentication.md").read_text()
    rules, maps = (
        block.split("```")[0] for block in text.split("\n```\n")[1:] if block.startswith(("# type", "people"))
    )
    assert [rule.method for rule in hba_rules(written(tmp_path, rules))] == [
        "scram-sha-256",
        "cert",
        "scram-sha-256",
        "reject",
        "md5",
    ]
    assert mapped(user_mappings(written(tmp_path, maps)), "people", "ann@example.com", "ann")
