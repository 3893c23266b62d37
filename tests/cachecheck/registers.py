"""The registers: in which tables they stand, in which ways they are written, and from where they can be read.

A *kind* is a way in which a change gets from the statement that makes it to the tables that are read: by a trigger, by
a view, by a cascade. Each has a few registers, by their key. SQL has the key as $1 and the version as $2.

Tables without a primary key say which of their rows an UPDATE meant: in a publication they have to.

No write lowers a version: who asks for 7 and is overtaken by 8 changes nothing. So a statement whose client has gone,
and which runs all the same, late, does not turn a register back.
"""

from typing import Final, NamedTuple

TOTAL: Final = 10**12
"""Of the two accounts of a transfer."""

SLOW_ROWS: Final = 20_000


class Look(NamedTuple):
    """A SELECT, and what its columns are."""

    sql: str
    columns: tuple[str, ...] = ("version",)
    """`version`; `rest`: TOTAL without the version; `total`: TOTAL, whatever the version."""
    name: str = ""


class Way(NamedTuple):
    """The statements of one write. Alone, one of them commits by itself; several need a transaction around them."""

    name: str
    statements: tuple[str, ...]
    literal: bool = False
    """It takes no parameters: the key and the version are put into the text, and it is sent as a Query message."""
    copy: bool = False
    """A COPY FROM STDIN of one line, the key and the version."""
    alone: bool = True
    """It may stand outside a transaction."""
    directly: bool = True
    """It may be done on the primary itself: what it does is told by logical decoding."""
    weight: int = 2
    certain: bool = True
    """Its client may be killed in the middle: the statements are guarded against coming late."""
    commits: bool = False
    """It commits within: it cannot stand in a transaction, and an error says nothing."""


class Kind(NamedTuple):
    name: str
    schema: str
    seed: str
    """What makes the register $1, at version 0."""
    ways: tuple[Way, ...]
    looks: tuple[Look, ...]
    keys: int = 0
    """How many registers; 0 for as many as the load likes."""
    mvcc: bool = True
    """A snapshot taken before a write goes on showing what was before."""
    weight: int = 6
    """How often it is read and written, in relation to others."""
    server_version: int = 0


def _set(table: str) -> str:
    return f"UPDATE {table} SET v = $2 WHERE id = $1 AND v < $2"


def _get(table: str) -> Look:
    return Look(f"SELECT v FROM {table} WHERE id = $1", name=table)


def _zero(*tables: str) -> str:
    return "; ".join(f"INSERT INTO {table} VALUES ($1, 0)" for table in tables)


def _both(one: str, other: str) -> Look:
    sql = f"SELECT one.v, other.v FROM {one} one JOIN {other} other USING (id) WHERE id = $1"
    return Look(sql, ("version", "version"), f"{one} and {other}")


def _slow(table: str) -> Look:
    """It takes milliseconds between its snapshot and its answer: time for a commit."""
    sql = f"SELECT v FROM {table}, (SELECT count(*) FROM generate_series(1, {SLOW_ROWS})) s WHERE id = $1"
    return Look(sql, name=f"{table}, slowly")


_ID_V: Final = "(id bigint PRIMARY KEY, v bigint NOT NULL)"

PLAIN: Final = Kind(
    "plain",
    f"""
CREATE TABLE plain {_ID_V};
CREATE VIEW plain_seen AS SELECT id, v FROM plain;
CREATE VIEW plain_seen_twice AS SELECT id, v FROM plain_seen WHERE v >= 0;
""",
    _zero("plain"),
    (
        Way("UPDATE", (_set("plain"),), weight=6),
        Way("updatable view", (_set("plain_seen"),)),
        Way("view over view", (_set("plain_seen_twice"),)),
        Way("upsert", ("INSERT INTO plain VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET v = greatest(plain.v, $2)",)),
        Way(
            "EXECUTE",
            (
                "PREPARE put_plain_{version} (bigint, bigint) AS"
                " UPDATE plain SET v = {two} WHERE id = {one} AND v < {two}",
                "EXECUTE put_plain_{version} ({key}, {version})",
                "DEALLOCATE put_plain_{version}",
            ),
            literal=True,
        ),
        Way("EXPLAIN ANALYZE", ("EXPLAIN ANALYZE " + _set("plain"),), weight=1),
    ),
    (
        _get("plain"),
        _get("plain_seen"),
        _get("plain_seen_twice"),
        Look("SELECT v FROM ONLY plain WHERE id = $1 AND v >= 0", name="ONLY plain"),
        Look("SELECT max(v) FROM plain WHERE id = $1", name="max"),
        Look("WITH w AS (SELECT * FROM plain) SELECT v FROM w WHERE id = $1", name="WITH plain"),
        Look("SELECT (SELECT v FROM plain WHERE id = $1)", name="sub-select"),
        _slow("plain"),
    ),
    weight=10,
)

PAIR: Final = Kind(
    "pair",
    f"""
CREATE TABLE pair_a {_ID_V};
CREATE TABLE pair_b {_ID_V};
CREATE VIEW pair_seen AS SELECT id, a.v AS left_v, b.v AS right_v FROM pair_a a JOIN pair_b b USING (id);
""",
    _zero("pair_a", "pair_b"),
    (
        Way("two UPDATEs", (_set("pair_a"), _set("pair_b")), alone=False, weight=5),
        Way("WITH", (f"WITH w AS ({_set('pair_a')}) {_set('pair_b')}",), weight=4),
        Way("string of statements", (f"{_set('pair_a')}; {_set('pair_b')}",), literal=True),
    ),
    (
        _get("pair_a"),
        _get("pair_b"),
        _both("pair_a", "pair_b"),
        Look("SELECT left_v, right_v FROM pair_seen WHERE id = $1", ("version", "version"), "pair_seen"),
        Look(
            "SELECT min(v), max(v) FROM (SELECT * FROM pair_a UNION ALL SELECT * FROM pair_b) u WHERE id = $1",
            ("version", "version"),
            "UNION ALL",
        ),
        _slow("pair_b"),
    ),
    weight=10,
)

TRANSFER: Final = Kind(
    "transfer",
    f"""
CREATE TABLE givers {_ID_V};
CREATE TABLE takers {_ID_V};
""",
    f"INSERT INTO givers VALUES ($1, {TOTAL}); INSERT INTO takers VALUES ($1, 0)",
    (
        Way(
            "transfer",
            (f"UPDATE givers SET v = {TOTAL} - $2 WHERE id = $1 AND v > {TOTAL} - $2", _set("takers")),
            alone=False,
        ),
    ),
    (
        Look("SELECT v FROM givers WHERE id = $1", ("rest",), "givers"),
        _get("takers"),
        Look(
            "SELECT (SELECT v FROM givers WHERE id = $1) + t.v, t.v FROM takers t WHERE id = $1",
            ("total", "version"),
            "sum",
        ),
        Look(
            "SELECT sum(v)::bigint FROM (SELECT * FROM givers UNION ALL SELECT * FROM takers) u WHERE id = $1",
            ("total",),
            "sum of a union",
        ),
    ),
)

PARTS: Final = Kind(
    "parts",
    """
CREATE TABLE parts (id bigint NOT NULL, v bigint NOT NULL) PARTITION BY HASH (id);
CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1) PARTITION BY LIST (id);
CREATE TABLE parts_1_rest PARTITION OF parts_1 DEFAULT;
ALTER TABLE parts_0 REPLICA IDENTITY FULL;
ALTER TABLE parts_1_rest REPLICA IDENTITY FULL;
""",
    _zero("parts"),
    (
        Way("parent", (_set("parts"),), weight=4),
        # A row is in one of them: the other statement finds nothing.
        Way("partitions", (_set("parts_0"), _set("parts_1_rest")), alone=False),
        Way("partition's own partition", (f"WITH w AS ({_set('parts_0')}) {_set('parts_1')}",)),
    ),
    (
        _get("parts"),
        Look(
            "SELECT coalesce((SELECT v FROM parts_0 WHERE id = $1), (SELECT v FROM parts_1_rest WHERE id = $1))",
            name="partitions",
        ),
        Look(
            "SELECT v FROM (SELECT * FROM parts_0 UNION ALL SELECT * FROM parts_1) u WHERE id = $1",
            name="partition's own partition",
        ),
    ),
)

HEIRS: Final = Kind(
    "heirs",
    f"""
CREATE TABLE forebears {_ID_V};
CREATE TABLE heirs () INHERITS (forebears);
CREATE TABLE heirs_of_heirs () INHERITS (heirs);
ALTER TABLE heirs_of_heirs REPLICA IDENTITY FULL;
""",
    _zero("heirs_of_heirs"),
    (
        Way("inherited from", (_set("forebears"),)),
        Way("heir", (_set("heirs_of_heirs"),)),
    ),
    (_get("forebears"), _get("heirs"), _get("heirs_of_heirs"), _get("ONLY heirs_of_heirs")),
)

TOLD: Final = Kind(
    "told",
    f"""
CREATE TABLE told {_ID_V};
CREATE TABLE heard {_ID_V};
CREATE TABLE overheard {_ID_V};
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN UPDATE heard SET v = NEW.v WHERE id = NEW.id; RETURN NULL; END$$;
CREATE FUNCTION tell_on() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN EXECUTE 'UPDATE overheard SET v = $1 WHERE id = $2' USING NEW.v, NEW.id; RETURN NEW; END$$;
CREATE TRIGGER telling AFTER UPDATE ON told FOR EACH ROW EXECUTE FUNCTION tell();
CREATE TRIGGER telling_on BEFORE UPDATE ON heard FOR EACH ROW EXECUTE FUNCTION tell_on();
""",
    _zero("told", "heard", "overheard"),
    (Way("trigger", (_set("told"),)),),
    (_get("told"), _get("heard"), _get("overheard"), _both("told", "overheard")),
)

KINGS: Final = Kind(
    "kings",
    f"""
CREATE TABLE kings {_ID_V};
ALTER TABLE kings ADD UNIQUE (id, v);
CREATE TABLE dukes (id bigint PRIMARY KEY, v bigint NOT NULL, UNIQUE (id, v),
    FOREIGN KEY (id, v) REFERENCES kings (id, v) ON UPDATE CASCADE ON DELETE CASCADE);
CREATE TABLE earls (id bigint PRIMARY KEY, v bigint NOT NULL,
    FOREIGN KEY (id, v) REFERENCES dukes (id, v) ON UPDATE CASCADE ON DELETE CASCADE);
""",
    _zero("kings", "dukes", "earls"),
    (Way("cascade", (_set("kings"),)),),
    (_get("kings"), _get("dukes"), _get("earls"), _both("kings", "earls")),
)

RULED: Final = Kind(
    "ruled",
    f"""
CREATE TABLE ruled {_ID_V};
CREATE TABLE ruled_too {_ID_V};
CREATE VIEW ruled_seen AS SELECT id, v FROM ruled;
CREATE RULE too AS ON UPDATE TO ruled DO ALSO UPDATE ruled_too SET v = NEW.v WHERE id = NEW.id;
CREATE RULE instead AS ON UPDATE TO ruled_seen DO INSTEAD UPDATE ruled SET v = NEW.v WHERE id = NEW.id AND v < NEW.v;
""",
    _zero("ruled", "ruled_too"),
    (
        Way("rule", (_set("ruled"),)),
        Way("view with a rule", (_set("ruled_seen"),)),
    ),
    (_get("ruled"), _get("ruled_too"), _get("ruled_seen"), _both("ruled", "ruled_too")),
)

CALLED: Final = Kind(
    "called",
    f"""
CREATE TABLE called {_ID_V};
CREATE TABLE called_too {_ID_V};
CREATE FUNCTION put_called(bigint, bigint) RETURNS void LANGUAGE sql AS
$${_set("called")}; {_set("called_too")}$$;
CREATE PROCEDURE call_called(key bigint, version bigint) LANGUAGE plpgsql AS
$$BEGIN EXECUTE 'SELECT put_called($1, $2)' USING key, version; END$$;
CREATE PROCEDURE commit_called(key bigint, version bigint) LANGUAGE plpgsql AS
$$BEGIN PERFORM put_called(key, version); COMMIT; PERFORM v FROM called WHERE id = key; END$$;
""",
    _zero("called", "called_too"),
    (
        Way("function", ("SELECT put_called($1, $2)",)),
        Way("CALL", ("CALL call_called($1, $2)",)),
        Way("CALL that commits", ("CALL commit_called({key}, {version})",), literal=True, weight=1, commits=True),
        Way("DO", ("DO $$BEGIN PERFORM put_called({key}, {version}); END$$",), literal=True, weight=1),
    ),
    (_get("called"), _get("called_too"), _both("called", "called_too")),
    weight=4,
)

COPIED: Final = Kind(
    "copied",
    """
CREATE TABLE copied (id bigint NOT NULL, v bigint NOT NULL);
CREATE INDEX ON copied (id, v);
""",
    _zero("copied"),
    (
        Way("COPY", ("COPY copied FROM STDIN",), copy=True),
        Way("INSERT", ("INSERT INTO copied VALUES ($1, $2)",)),
        Way("INSERT SELECT", ("INSERT INTO copied SELECT $1, greatest($2, max(v)) FROM copied WHERE id = $1",)),
    ),
    (
        Look("SELECT max(v) FROM copied WHERE id = $1", name="max"),
        Look("SELECT v FROM copied WHERE id = $1 ORDER BY v DESC LIMIT 1", name="last"),
    ),
)

MERGED: Final = Kind(
    "merged",
    f"CREATE TABLE merged {_ID_V};",
    _zero("merged"),
    (
        Way(
            "MERGE",
            (
                "MERGE INTO merged USING (SELECT $1::bigint AS id, $2::bigint AS v) new ON merged.id = new.id"
                " WHEN MATCHED AND merged.v < new.v THEN UPDATE SET v = new.v",
            ),
        ),
    ),
    (_get("merged"), _slow("merged")),
    server_version=15,
)

EMPTIED: Final = Kind(
    "emptied",
    """
CREATE TABLE emptied (id bigint PRIMARY KEY, v bigint NOT NULL);
CREATE TABLE emptied_too (id bigint PRIMARY KEY REFERENCES emptied, v bigint NOT NULL);
""",
    _zero("emptied", "emptied_too"),
    (
        Way(
            "TRUNCATE",
            (
                "TRUNCATE emptied CASCADE",
                "INSERT INTO emptied VALUES ($1, $2)",
                "INSERT INTO emptied_too VALUES ($1, $2)",
            ),
            alone=False,
            certain=False,
        ),
    ),
    (_get("emptied"), _get("emptied_too"), _both("emptied", "emptied_too")),
    keys=1,
    mvcc=False,
    weight=3,
)

REFRESHED: Final = Kind(
    "refreshed",
    f"""
CREATE TABLE refreshed {_ID_V};
CREATE MATERIALIZED VIEW fresh AS SELECT id, v FROM refreshed;
""",
    _zero("refreshed") + "; REFRESH MATERIALIZED VIEW fresh",
    (
        Way(
            "REFRESH",
            (_set("refreshed"), "REFRESH MATERIALIZED VIEW fresh"),
            alone=False,
            directly=False,
            certain=False,
        ),
    ),
    (_get("refreshed"), _get("fresh"), _both("refreshed", "fresh")),
    keys=1,
    mvcc=False,
    weight=2,
)

DEFINED: Final = Kind(
    "defined",
    f"""
CREATE TABLE one {_ID_V};
CREATE VIEW defined AS SELECT id, 0::bigint AS v FROM one;
CREATE FUNCTION defined_too() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT 0::bigint';
""",
    _zero("one"),
    (
        Way(
            "DDL",
            (
                "CREATE OR REPLACE VIEW defined AS SELECT id, {version}::bigint AS v FROM one",
                "CREATE OR REPLACE FUNCTION defined_too() RETURNS bigint LANGUAGE sql IMMUTABLE"
                " AS 'SELECT {version}::bigint'",
            ),
            literal=True,
            alone=False,
            directly=False,
            certain=False,
        ),
    ),
    (
        _get("defined"),
        Look("SELECT defined_too() FROM one WHERE id = $1", name="defined_too()"),
    ),
    keys=1,
    mvcc=False,
    weight=1,
)

REMADE: Final = Kind(
    "remade",
    f"CREATE TABLE remade {_ID_V};",
    _zero("remade"),
    (
        Way(
            "DROP and CREATE",
            (
                "DROP TABLE remade",
                "CREATE TABLE remade AS SELECT {key}::bigint AS id, {version}::bigint AS v",
            ),
            literal=True,
            alone=False,
            directly=False,
            certain=False,
        ),
        Way(
            "ALTER TABLE USING",
            ("ALTER TABLE remade ALTER v TYPE bigint USING {version}",),
            literal=True,
            directly=False,
            certain=False,
        ),
    ),
    (_get("remade"),),
    keys=1,
    mvcc=False,
    weight=1,
)

KINDS: Final = (
    PLAIN,
    PAIR,
    TRANSFER,
    PARTS,
    HEIRS,
    TOLD,
    KINGS,
    RULED,
    CALLED,
    COPIED,
    MERGED,
    EMPTIED,
    REFRESHED,
    DEFINED,
    REMADE,
)

LATE: Final = """
CREATE TABLE late (id bigint REFERENCES late_for DEFERRABLE INITIALLY DEFERRED);
"""
FAIL_AT_COMMIT: Final = "INSERT INTO late VALUES (1)"
"""The COMMIT of its transaction fails, and nothing before it does."""

SCHEMA: Final = "CREATE TABLE late_for (id bigint PRIMARY KEY);" + LATE


def literal(sql: str, key: int, version: int) -> str:
    """A statement without parameters. {one} and {two} are those of a statement that it prepares."""
    filled = sql.replace("$1", str(key)).replace("$2", str(version))
    filled = filled.replace("{key}", str(key)).replace("{version}", str(version))
    return filled.replace("{one}", "$1").replace("{two}", "$2")
