"""pg_hba.conf and pg_ident.conf, read into rules. Raises FileMistake for what PostgreSQL or Pointsman has no sense of.

What PostgreSQL knows and this does not is refused when the file is read, never passed over: a rule that is left out
could let somebody in by the next one.
"""

import ipaddress
import re
import socket
from typing import Final

import psutil

from middleware.auth.lines import Line, Word, lines_of
from middleware.auth.mistakes import FileMistake
from middleware.auth.rules import METHODS, HbaRule, UserMapping

_KINDS: Final = ("local", "host", "hostssl", "hostnossl", "hostnogssenc")


def hba_rules(file: str) -> tuple[HbaRule, ...]:
    """The file's rules, in its order. Raises FileMistake; as PostgreSQL, also where it has none."""
    rules = tuple(rule for line in lines_of(file) if (rule := _rule(line)) is not None)
    if not rules:
        raise FileMistake(file, 0, "contains no entries: nobody could come in")
    return rules


def user_mappings(file: str) -> tuple[UserMapping, ...]:
    """The file's maps. Raises FileMistake."""
    return tuple(_mapping(line) for line in lines_of(file))


def _rule(line: Line) -> HbaRule | None:
    kind = line.single(0, "the connection type").text
    if kind == "hostgssenc":
        # There is no GSSAPI encryption here that it could match.
        return None
    if kind not in _KINDS:
        raise line.mistake(f'"{kind}" is not a connection type: {", ".join(_KINDS)}')
    if len(line.fields) < 3:
        raise line.mistake("the databases and the users are missing")
    databases = tuple(_database(line, word) for word in line.fields[1])
    users = tuple(_user(line, word) for word in line.fields[2])
    at = 3
    networks: tuple[str, ...] = ()
    if kind != "local":
        networks, at = _networks(line, at)
    method = line.single(at, "the method").text
    if method not in METHODS:
        raise line.mistake(f'method "{method}" is not supported: {", ".join(METHODS)}')
    if method == "peer" and kind != "local":
        raise line.mistake('method "peer" needs the connection type local')
    if method == "cert" and kind != "hostssl":
        raise line.mistake('method "cert" needs the connection type hostssl')
    options = dict(_option(line, word) for field in line.fields[at + 1 :] for word in field)
    if "clientcert" in options and kind != "hostssl":
        raise line.mistake("clientcert needs the connection type hostssl")
    if "map" in options and method not in ("cert", "peer"):
        raise line.mistake('map needs the method "cert" or "peer"')
    if "clientname" in options and method != "cert" and options.get("clientcert") != "verify-full":
        raise line.mistake('clientname needs the method "cert" or clientcert=verify-full')
    return HbaRule(
        "host" if kind == "hostnogssenc" else kind,
        databases,
        users,
        networks,
        method,
        options.get("map", ""),
        options.get("clientcert", ""),
        options.get("clientname", "CN"),
        f"{line.file}:{line.number}",
    )


def _database(line: Line, word: Word) -> str:
    if any(word.is_keyword(keyword) for keyword in ("samerole", "samegroup")):
        raise line.mistake(f'"{word.text}" is not supported: membership in roles is not known here')
    if any(word.is_keyword(keyword) for keyword in ("all", "sameuser", "replication")):
        return f"={word.text}"
    return _name(line, word)


def _user(line: Line, word: Word) -> str:
    if word.is_keyword("all"):
        return "=all"
    if not word.quoted and word.text.startswith("+"):
        raise line.mistake(f'"{word.text}" is not supported: membership in roles is not known here')
    return _name(line, word)


def _name(line: Line, word: Word) -> str:
    if word.quoted and word.text[:1] in ("/", "=", "\\"):
        return "\\" + word.text
    if word.text.startswith("/"):
        _check_expression(line, word.text[1:])
        return word.text
    return "\\" + word.text if word.text[:1] in ("=", "\\") else word.text


def _networks(line: Line, at: int) -> tuple[tuple[str, ...], int]:
    """The networks of the address field, none for all; and where the method is."""
    word = line.single(at, "the address")
    if word.is_keyword("all"):
        return (), at + 1
    if not word.quoted and word.text in ("samehost", "samenet"):
        return _own_networks(line, whole=word.text == "samenet"), at + 1
    text = word.text
    if "/" not in text:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            raise line.mistake(f'"{text}" is not an address; host names are not supported') from None
        mask = line.single(at + 1, "the address's mask").text
        text, at = f"{text}/{_bits_of(line, mask, address.max_prefixlen)}", at + 1
    try:
        return (str(ipaddress.ip_network(text, strict=False)),), at + 1
    except ValueError as error:
        raise line.mistake(f'"{text}" is not a network: {error}') from None


def _own_networks(line: Line, whole: bool) -> tuple[str, ...]:
    """This machine's addresses as they are now, or the networks that they are in."""
    found = []
    for interface in psutil.net_if_addrs().values():
        for one in interface:
            if one.family in (socket.AF_INET, socket.AF_INET6):
                address = ipaddress.ip_address(one.address.partition("%")[0])
                bits: int = address.max_prefixlen
                # As PostgreSQL: an interface without a mask, or with one of zeros, is of one address.
                if whole and one.netmask:
                    bits = _bits_of(line, one.netmask, bits) or bits
                found.append(str(ipaddress.ip_network(f"{address}/{bits}", strict=False)))
    if not found:
        # None would stand for any.
        raise line.mistake("this machine has no addresses")
    return tuple(dict.fromkeys(found))


def _bits_of(line: Line, mask: str, width: int) -> int:
    """A mask's length; the ipaddress module knows masks of IPv4 alone."""
    try:
        address = ipaddress.ip_address(mask)
    except ValueError:
        address = None
    bits = bin(int(address)).count("1") if address is not None else 0
    if address is None or address.max_prefixlen != width or int(address) != (1 << width) - (1 << (width - bits)):
        raise line.mistake(f'"{mask}" is not a mask')
    return bits


def _option(line: Line, word: Word) -> tuple[str, str]:
    name, equals, value = word.text.partition("=")
    allowed = {"clientcert": ("verify-ca", "verify-full"), "clientname": ("CN", "DN")}
    if not equals or (name != "map" and name not in allowed):
        raise line.mistake(f'option "{word.text}" is not supported: map, clientcert, clientname')
    if name in allowed and value not in allowed[name]:
        raise line.mistake(f"{name} must be {' or '.join(allowed[name])}")
    return name, value


def _mapping(line: Line) -> UserMapping:
    name = line.single(0, "the map's name").text
    system_user = line.single(1, "the system user").text
    if system_user.startswith("/"):
        _check_expression(line, system_user[1:])
    word = line.single(2, "the database user")
    if word.is_keyword("all"):
        return UserMapping(name, system_user, "=all")
    if not word.quoted and word.text.startswith("+"):
        raise line.mistake(f'"{word.text}" is not supported: membership in roles is not known here')
    if word.text.startswith("/") and not word.quoted:
        _check_expression(line, word.text[1:])
    elif "\\1" in word.text and not (system_user.startswith("/") and re.compile(system_user[1:]).groups):
        raise line.mistake("\\1 needs an expression with parentheses for the system user")
    return UserMapping(name, system_user, word.text)


def _check_expression(line: Line, expression: str) -> None:
    try:
        re.compile(expression)
    except re.error as error:
        raise line.mistake(f'"/{expression}" is not a regular expression: {error}') from None
