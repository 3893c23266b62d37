"""A small value of every type, as SQL: arguments for calling what one knows only by its signature."""

from typing import Final

_BY_TYPE: Final = {
    "any": "'a'::text",
    "anyelement": "1",
    "anynonarray": "1",
    "anycompatible": "1",
    "anycompatiblenonarray": "1",
    "anyarray": "ARRAY[1, 2]",
    "anycompatiblearray": "ARRAY[1, 2]",
    "anyenum": "'calm'::public.mood",
    "anyrange": "int4range(1, 5)",
    "anycompatiblerange": "int4range(1, 5)",
    "anymultirange": "int4multirange(int4range(1, 5))",
    "anycompatiblemultirange": "int4multirange(int4range(1, 5))",
    "record": "ROW(1, 2)",
    "record[]": "ARRAY[ROW(1, 2)]",
    "oid": "'public.plain'::regclass::oid",
}
"""Types without literals of their own, and those of which a literal would name nothing."""

_TEXTS: Final = {
    "bigint": "1",
    "integer": "1",
    "smallint": "1",
    "double precision": "0.5",
    "real": "0.5",
    "numeric": "1.5",
    "money": "1.50",
    "boolean": "true",
    "text": "a",
    "character varying": "a",
    "character": "a",
    '"char"': "a",
    "name": "plain",
    "cstring": "1",
    "bytea": "\\x61",
    "date": "2024-01-02",
    "time without time zone": "12:34:56",
    "time with time zone": "12:34:56+00",
    "timestamp without time zone": "2024-01-02 03:04:05",
    "timestamp with time zone": "2024-01-02 03:04:05+00",
    "interval": "1 day",
    "json": '{"a": 1}',
    "jsonb": '{"a": 1}',
    "jsonpath": "$.a",
    "xml": "<a/>",
    "uuid": "0190163d-8694-739b-aea5-966c26f8ad91",
    "inet": "10.0.0.1",
    "cidr": "10.0.0.0/8",
    "macaddr": "08:00:2b:01:02:03",
    "macaddr8": "08:00:2b:01:02:03:04:05",
    "point": "(1,2)",
    "lseg": "[(0,0),(1,1)]",
    "box": "(1,1),(0,0)",
    "path": "((0,0),(1,1),(2,0))",
    "polygon": "((0,0),(1,1),(2,0))",
    "circle": "<(0,0),1>",
    "line": "{1,2,3}",
    "bit": "1",
    "bit varying": "101",
    "tsvector": "a:1",
    "tsquery": "a",
    "pg_lsn": "0/1",
    "xid": "3",
    "xid8": "3",
    "cid": "1",
    "tid": "(0,1)",
    "pg_snapshot": "3:3:",
    "txid_snapshot": "3:3:",
    "oidvector": "23 25",
    "int2vector": "1 2",
    "refcursor": "c",
    "aclitem": "app=r/app",
    "regclass": "public.plain",
    "regtype": "integer",
    "regproc": "now",
    "regprocedure": "abs(integer)",
    "regoper": "||/",
    "regoperator": "+(integer,integer)",
    "regconfig": "english",
    "regdictionary": "simple",
    "regnamespace": "public",
    "regrole": "app",
    "regcollation": '"C"',
    "int4range": "[1,5)",
    "int8range": "[1,5)",
    "numrange": "[1,5)",
    "daterange": "[2024-01-01,2024-01-05)",
    "tsrange": "[2024-01-01,2024-01-05)",
    "tstzrange": "[2024-01-01,2024-01-05)",
    "public.mood": "calm",
    "public.span": "[1,5)",
    "public.holder": "(1)",
    "public.marked": "(1)",
    "public.paired": "(1)",
    "public.vector": "[1,2,3]",
    "public.halfvec": "[1,2,3]",
    "public.sparsevec": "{1:1}/3",
}
"""By the names that format_type() gives."""


def literal(type_name: str) -> str:
    """A value of the type; NULL of it where we know none."""
    known = _BY_TYPE.get(type_name)
    if known is not None:
        return known
    text = _TEXTS.get(type_name)
    if text is None and type_name.endswith("[]"):
        element = _TEXTS.get(type_name[:-2])
        text = None if element is None else "{" + _quoted(element) + "}"
    if text is None:
        return f"NULL::{type_name}"
    return "'" + text.replace("'", "''") + f"'::{type_name}"


def _quoted(element: str) -> str:
    return '"' + element.replace("\\", "\\\\").replace('"', '\\"') + '"'
