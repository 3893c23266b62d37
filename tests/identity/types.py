"""A table with a column of every type, and rows with what is strange in each."""

from typing import Final

COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "smallint": ("0", "-32768", "32767"),
    "integer": ("0", "-2147483648", "2147483647"),
    "bigint": ("0", "-9223372036854775808", "9223372036854775807"),
    "numeric": ("0", "'NaN'", "'-Infinity'", "1e-400", "-123456789012345678901234567890.000100"),
    "numeric(10,3)": ("0", "'NaN'", "-9999999.999"),
    "real": ("0", "'NaN'", "'Infinity'", "1.17549435e-38", "0.1", "'-0'"),
    "double precision": ("0", "'NaN'", "'-Infinity'", "5e-324", "0.1", "'-0'"),
    "money": ("0", "-92233720368547758.08", "12.34"),
    "boolean": ("true", "false"),
    "text": ("''", "'plain'", r"E'tab\tline\nquote'' back\\slash'", "'äöü ß € 𝄞 ÿ'", "repeat('x', 3000)"),
    "varchar(20)": ("''", "'ten of them'", "'  spaces  '"),
    "char(8)": ("''", "'pad'", "'12345678'"),
    '"char"': ("''", "'a'", r"'\200'"),
    "name": ("'a name'",),
    "bytea": (r"'\x'", r"'\x00ff5c27'", "decode('3132', 'hex')", r"'\\134'"),
    "json": ("'{}'", """'{"b": [1, 2.50, null], "a": "ä\\u0041", "b":  1}'""", "'null'", "'[]'"),
    "jsonb": ("'{}'", """'{"b": [1, 2.50, null], "a": "ä\\u0041", "b":  1}'""", "'null'", "'[]'"),
    "jsonpath": ("'$.a[*] ? (@ > 1)'",),
    "date": ("'2000-01-01'", "'infinity'", "'-infinity'", "'4713-01-01 BC'", "'5874897-12-31'"),
    "time": ("'00:00'", "'24:00'", "'12:34:56.789012'"),
    "time(2)": ("'12:34:56.789012'",),
    "timestamp": ("'2000-01-01'", "'infinity'", "'2024-02-29 23:59:59.999999'", "'4713-01-01 00:00 BC'"),
    "timestamptz": ("'2000-01-01 00:00Z'", "'-infinity'", "'2024-03-31 01:30Z'", "'1883-11-18 17:00Z'"),
    "interval": ("'0'", "'1 year 2 mons -3 days 04:05:06.789'", "'-178000000 years'", "'-1 day +02:03'"),
    "uuid": ("'00000000-0000-0000-0000-000000000000'", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"),
    "inet": ("'10.0.0.1'", "'::1/64'", "'192.168.100.128/25'"),
    "cidr": ("'10.0.0.0/8'", "'2001:db8::/32'"),
    "macaddr": ("'08:00:2b:01:02:03'",),
    "macaddr8": ("'08:00:2b:01:02:03:04:05'",),
    "bit(5)": ("B'10101'",),
    "bit varying": ("B''", "B'1010111100001'"),
    "point": ("'(1.5,-2)'",),
    "line": ("'{1,-1,0.5}'",),
    "lseg": ("'[(0,0),(1,1)]'",),
    "box": ("'(2,2),(0,0)'",),
    "path": ("'((0,0),(1,1),(2,0))'", "'[(0,0),(1,1)]'"),
    "polygon": ("'((0,0),(1,1),(2,0))'",),
    "circle": ("'<(0.1,0.2),3>'",),
    "tsvector": ("'fat:2A cat:1,3'", "''"),
    "tsquery": ("'fat & !rat | (cat:A <-> dog)'",),
    "pg_lsn": ("'16/B374D848'",),
    "oid": ("0", "4294967295"),
    "tid": ("'(42,7)'",),
    "xid8": ("'18446744073709551615'",),
    "int4range": ("'empty'", "'[1,10)'", "'(,)'"),
    "numrange": ("'[1.10,2.20]'", "'(,5)'"),
    "tstzrange": ("'[2024-01-01 00:00Z,2024-06-01 12:00Z)'",),
    "datemultirange": ("'{}'", "'{[2024-01-01,2024-02-01),[2024-03-01,)}'"),
    "integer[]": ("'{}'", "'{1,NULL,3}'", "'[-1:1]={1,2,3}'", "'{{1,2},{3,NULL}}'", "'[2:3][0:0]={{1},{2}}'"),
    "text[]": ("'{}'", """'{"",NULL,"NULL","a,b","say \\"hi\\"","back\\\\slash"}'""", "'{{a,b},{ä,€}}'"),
    "timestamptz[]": ("'{2000-01-01 00:00Z,NULL,infinity}'",),
    "numeric[]": ("'{1.10,NaN,-Infinity}'",),
    "bytea[]": (r"""'{"\\x00ff",NULL}'""",),
    "identity_mood": ("'happy'", "'not so'", "'ärgerlich'"),
    "identity_pair": ("(1,'one')::identity_pair", "(NULL,NULL)::identity_pair", """'(2,"a ""b"", c")'"""),
    "identity_nested": ("row((1,'one')::identity_pair, '{1,2}'::int[], now() - now())::identity_nested",),
    "identity_even": ("2",),
    "identity_word": ("'word'",),
    "identity_pair[]": ("""ARRAY[(1,'one')::identity_pair, NULL]""",),
}
"""By type: SQL of its values. The first row has the first of each, the second the second, .. and NULL from there on."""

TYPES: Final = """
CREATE TYPE identity_mood AS ENUM ('not so', 'happy', 'ärgerlich');
CREATE TYPE identity_pair AS (n integer, word text);
CREATE TYPE identity_nested AS (pair identity_pair, numbers integer[], took interval);
CREATE DOMAIN identity_even AS integer CHECK (VALUE % 2 = 0);
CREATE DOMAIN identity_word AS text NOT NULL CHECK (VALUE <> '');
"""

NEVER_NULL: Final = ("identity_word",)


def column(type_name: str) -> str:
    """The name of the column of a type."""
    plain = type_name.replace("[]", " array")
    return "c_" + "".join(letter if letter.isalnum() else "_" for letter in plain).strip("_")


def rows() -> int:
    """How many rows there are, the last with NULL wherever that may be."""
    return max(len(values) for values in COLUMNS.values()) + 1


def create() -> str:
    """SQL that makes the table `identity_types`, and fills it."""
    columns = ", ".join(f"{column(name)} {name}" for name in COLUMNS)
    inserts = (
        f"INSERT INTO identity_types VALUES ({', '.join([str(number), *_values(number)])});" for number in range(rows())
    )
    return TYPES + f"CREATE TABLE identity_types (id integer PRIMARY KEY, {columns});\n" + "\n".join(inserts)


def _values(row: int) -> list[str]:
    found = []
    for name, values in COLUMNS.items():
        found.append(values[row] if row < len(values) else values[0] if name in NEVER_NULL else "NULL")
    return found
