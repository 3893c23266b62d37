"""Reading what routing must know of a database from its system catalogs.

In: an asyncpg connection. Out: the Rows of routing/assemble.py.

Only catalogs are read that everybody may read. The search_path is empty meanwhile, so that PostgreSQL qualifies every
name outside pg_catalog in the texts it gives back.
"""

from typing import Any, Final, TypeVar

import msgspec

from routing.catalog import SETTINGS
from routing.rows import Cast, ForeignKey, Function, Operator, Relation, Rows, Support, Type, Use

Row = TypeVar("Row", bound=msgspec.Struct)

FIRST_NORMAL_OID: Final = 16384
"""Below it are the objects that initdb made (access/transam.h, FirstNormalObjectId)."""

_FUNCTIONS: Final = """
SELECT p.oid::int8 AS oid, n.nspname AS schema, p.proname AS name,
       p.pronargs - p.pronargdefaults - (p.provariadic <> 0)::int AS least,
       CASE WHEN p.provariadic <> 0 THEN -1 ELSE p.pronargs END AS most,
       p.provolatile::text AS volatility, p.prokind::text AS kind, p.oid < {first} AS builtin,
       CASE WHEN p.proname = 'age' THEN oidvectortypes(p.proargtypes) ELSE '' END AS arguments, l.lanname AS language,
       CASE WHEN p.oid >= {first} AND l.lanname NOT IN ('c', 'internal')
            THEN coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) ELSE '' END
           || CASE WHEN p.oid >= {first} THEN coalesce(' ' || pg_get_expr(p.proargdefaults, 0), '') ELSE '' END AS body,
       p.oid >= {first} AND p.pronargs - p.pronargdefaults <= 1 AND p.pronargs >= 1
           AND (a.typtype IN ('c', 'p') OR a.typtype = 'd') AS attribute,
       CASE WHEN p.prokind = 'a' AND p.oid >= {first} THEN
            (SELECT ARRAY(SELECT f::oid::int8 FROM unnest(ARRAY[g.aggtransfn, g.aggfinalfn, g.aggcombinefn,
                g.aggserialfn, g.aggdeserialfn, g.aggmtransfn, g.aggminvtransfn, g.aggmfinalfn]) AS f WHERE f <> 0)
             FROM pg_aggregate g WHERE g.aggfnoid = p.oid) ELSE '{{}}' END AS parts,
       CASE WHEN p.oid >= {first} THEN ARRAY(
            SELECT DISTINCT t::int8 FROM unnest(p.proargtypes::oid[] || p.proallargtypes || p.prorettype) AS t
             WHERE t >= {first}) ELSE '{{}}' END AS types
  FROM pg_proc p
  JOIN pg_namespace n ON n.oid = p.pronamespace
  JOIN pg_language l ON l.oid = p.prolang
  LEFT JOIN pg_type a ON p.pronargs > 0 AND a.oid = p.proargtypes[0]
"""

_RELATIONS: Final = """
SELECT c.oid::int8 AS oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
       c.relpersistence::text AS persistence,
       CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) ELSE '' END AS definition,
       CASE WHEN c.relrowsecurity THEN ARRAY(
            SELECT pg_get_expr(p.polqual, p.polrelid) FROM pg_policy p
             WHERE p.polrelid = c.oid AND p.polcmd IN ('r', '*') AND p.polqual IS NOT NULL) ELSE '{{}}' END AS policies,
       CASE WHEN c.relhassubclass THEN ARRAY(
            SELECT i.inhrelid::int8 FROM pg_inherits i WHERE i.inhparent = c.oid) ELSE '{{}}' END AS children,
       CASE WHEN c.oid >= {first} THEN ARRAY(
            SELECT a.atttypid::int8 FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0
               AND NOT a.attisdropped AND (a.atttypid >= {first} OR a.atttypid IN (1266, 1270)))
            ELSE '{{}}' END AS columns
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't' AND n.nspname <> 'pg_toast'
"""

_TYPES: Final = """
SELECT t.oid::int8 AS oid, n.nspname AS schema, t.typname AS name,
       CASE WHEN t.typtype = 'd' THEN ARRAY(
            SELECT pg_get_constraintdef(k.oid) FROM pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c')
            ELSE '{{}}' END AS checks,
       t.oid < {first} AS builtin,
       CASE WHEN t.oid < {first} THEN '{{}}' ELSE ARRAY(
            SELECT part::int8 FROM (
                SELECT t.typbasetype WHERE t.typbasetype <> 0
                UNION ALL SELECT t.typelem WHERE t.typelem <> 0
                UNION ALL SELECT a.atttypid FROM pg_attribute a
                           WHERE t.typrelid <> 0 AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
                UNION ALL SELECT r.rngsubtype FROM pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
            ) AS parts(part)) END AS parts
  FROM pg_type t
  JOIN pg_namespace n ON n.oid = t.typnamespace
  LEFT JOIN pg_class c ON c.oid = t.typrelid
 WHERE n.nspname NOT LIKE 'pg\\_toast%' AND n.nspname NOT LIKE 'pg\\_temp%' AND coalesce(c.relpersistence, 'p') <> 't'
"""

_OPERATORS: Final = """
SELECT n.nspname AS schema, o.oprname AS name, o.oprcode::oid::int8 AS function
  FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
"""

_CASTS: Final = """
SELECT castsource::int8 AS source, casttarget::int8 AS target, castfunc::int8 AS function, castcontext = 'i' AS implicit
  FROM pg_cast WHERE castfunc >= {first}
"""

_SUPPORT: Final = """
SELECT amproclefttype::int8 AS type, amproc::oid::int8 AS function FROM pg_amproc
 WHERE amproc::oid >= {first}
UNION SELECT m.amoplefttype::int8, o.oprcode::oid::int8
  FROM pg_amop m JOIN pg_operator o ON o.oid = m.amopopr
 WHERE o.oprcode::oid >= {first}
"""

# What views, rules, policies, expressions and types use, as PostgreSQL has found out itself.
_USES: Final = """
WITH parts AS (
    SELECT ev_class AS relation, CASE ev_type WHEN '1' THEN 'view' ELSE 'rule' END AS part,
           CASE ev_type WHEN '1' THEN 's' WHEN '2' THEN 'u' WHEN '3' THEN 'i' ELSE 'd' END AS ways,
           'pg_rewrite'::regclass AS class, oid
      FROM pg_rewrite WHERE oid >= {first}
    UNION ALL SELECT polrelid, 'policy', 'siud', 'pg_policy'::regclass, oid FROM pg_policy
    UNION ALL SELECT adrelid, 'expression', 'iu', 'pg_attrdef'::regclass, oid FROM pg_attrdef
    UNION ALL SELECT conrelid, CASE conrelid WHEN 0 THEN 'type' ELSE 'expression' END, 'iu',
                     'pg_constraint'::regclass, oid FROM pg_constraint WHERE contype IN ('c', 'x')
    UNION ALL SELECT indrelid, 'expression', 'iu', 'pg_class'::regclass, indexrelid
                FROM pg_index WHERE indexprs IS NOT NULL OR indpred IS NOT NULL
    UNION ALL SELECT tgrelid, 'expression',
                     CASE WHEN tgtype & 4 <> 0 THEN 'i' ELSE '' END || CASE WHEN tgtype & 8 <> 0 THEN 'd' ELSE '' END
                     || CASE WHEN tgtype & 16 <> 0 THEN 'u' ELSE '' END
                     || CASE WHEN tgtype & 32 <> 0 THEN 't' ELSE '' END, 'pg_trigger'::regclass, oid
                FROM pg_trigger WHERE tgenabled <> 'D'
    UNION ALL SELECT 0, 'type', '', 'pg_type'::regclass, oid FROM pg_type WHERE typtype = 'd')
SELECT DISTINCT p.relation::int8 AS relation, p.part, p.ways,
       CASE d.refclassid WHEN 'pg_proc'::regclass THEN d.refobjid::int8 ELSE 0 END AS function,
       CASE d.refclassid WHEN 'pg_class'::regclass THEN d.refobjid::int8 ELSE 0 END AS used
  FROM parts p JOIN pg_depend d ON d.classid = p.class AND d.objid = p.oid
 WHERE d.refobjid >= {first} AND d.refclassid IN ('pg_proc'::regclass, 'pg_class'::regclass)
   AND (d.refobjid <> p.relation OR p.part = 'rule')
"""

_FOREIGN_KEYS: Final = """
SELECT DISTINCT conrelid::int8 AS relation, confrelid::int8 AS referenced, confdeltype::text AS on_delete,
       confupdtype::text AS on_update
  FROM pg_constraint WHERE contype = 'f'
"""

# Names that some other column has, or a function gives to a column of its result, may be of any type.
_DATE_COLUMNS: Final = """
SELECT a.attname AS name
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
 WHERE c.oid >= {first} AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND c.relpersistence <> 't'
   AND a.attnum > 0 AND NOT a.attisdropped
 GROUP BY 1 HAVING bool_and(a.atttypid IN (1082, 1114, 1184))
EXCEPT SELECT given.name::name
  FROM pg_proc, unnest(proargnames, proargmodes) AS given (name, mode) WHERE given.mode IN ('o', 'b', 't')
"""

# A row that was written anew has another xmin; that of pg_class changes with TRUNCATE and the like, too.
_FINGERPRINT: Final = """
SELECT md5(concat_ws(';',
    (SELECT sum(hashtextextended(concat_ws(',', a.attrelid, a.attnum, a.xmin), 0))
       FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
      WHERE c.oid >= {first} AND c.relkind IN ('r', 'p', 'v', 'm') AND c.relpersistence <> 't'),
    (SELECT sum(hashtextextended(concat_ws(',', oid, relowner, relacl, relrowsecurity, relforcerowsecurity), 0))
       FROM pg_class WHERE oid >= {first} AND relkind IN ('r', 'p', 'v', 'm') AND relpersistence <> 't'),
    (SELECT sum(hashtextextended(concat_ws(',', oid, xmin), 0)) FROM pg_proc WHERE oid >= {first}),
    (SELECT sum(hashtextextended(concat_ws(',', oid, xmin), 0)) FROM pg_policy),
    (SELECT sum(hashtextextended(concat_ws(',', e.oid, e.xmin), 0))
       FROM pg_rewrite e JOIN pg_class c ON c.oid = e.ev_class
      WHERE e.oid >= {first} AND c.relpersistence <> 't'),
    (SELECT sum(hashtextextended(concat_ws(',', d.oid, d.xmin), 0))
       FROM pg_attrdef d JOIN pg_class c ON c.oid = d.adrelid WHERE c.relpersistence <> 't'),
    (SELECT sum(hashtextextended(concat_ws(',', inhrelid, inhparent, i.xmin), 0))
       FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE c.relpersistence <> 't'),
    (SELECT sum(hashtextextended(concat_ws(',', t.oid, t.xmin), 0))
       FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
      WHERE t.oid >= {first} AND t.typtype <> 'c' AND t.typelem = 0 AND coalesce(c.relpersistence, 'p') <> 't'),
    (SELECT sum(hashtextextended(concat_ws(',', oid, xmin), 0)) FROM pg_constraint WHERE contypid <> 0),
    (SELECT sum(hashtextextended(concat_ws(',', oid, xmin), 0)) FROM pg_operator WHERE oid >= {first}),
    (SELECT sum(hashtextextended(concat_ws(',', oid, xmin), 0)) FROM pg_cast WHERE oid >= {first}),
    (SELECT sum(hashtextextended(concat_ws(',', aggfnoid::oid, xmin), 0)) FROM pg_aggregate
      WHERE aggfnoid::oid >= {first}),
    (SELECT sum(hashtextextended(concat_ws(',', oid, xmin), 0)) FROM pg_opclass WHERE oid >= {first}),
    (SELECT sum(hashtextextended(concat_ws(',', oid, xmin), 0)) FROM pg_amop WHERE oid >= {first}),
    (SELECT sum(hashtextextended(concat_ws(',', oid, xmin), 0)) FROM pg_amproc WHERE oid >= {first}),
    (SELECT sum(hashtextextended(concat_ws(',', oid, xmin, collversion), 0)) FROM pg_collation),
    (SELECT sum(hashtextextended(concat_ws(',', oid, xmin), 0)) FROM pg_ts_config),
    (SELECT sum(hashtextextended(concat_ws(',', mapcfg, maptokentype, mapseqno, mapdict, xmin), 0))
       FROM pg_ts_config_map),
    (SELECT sum(hashtextextended(concat_ws(',', oid, xmin), 0)) FROM pg_ts_dict),
    (SELECT sum(hashtextextended(concat_ws(',', extname, extversion), 0)) FROM pg_extension),
    (SELECT sum(hashtextextended(concat_ws(',', oid, xmin), 0)) FROM pg_enum),
    (SELECT sum(hashtextextended(concat_ws(',', oid, xmin), 0)) FROM pg_namespace
      WHERE nspname !~ '^pg_(toast_)?temp_'),
    (SELECT sum(hashtextextended(concat_ws(',', roleid, member, xmin), 0)) FROM pg_auth_members),
    (SELECT sum(hashtextextended(concat_ws(',', oid, rolname, rolsuper, rolinherit, rolbypassrls), 0)) FROM pg_roles),
    (SELECT sum(hashtextextended(concat_ws(',', setdatabase, setrole, setconfig), 0)) FROM pg_db_role_setting),
    (SELECT sum(hashtextextended(concat_ws(',', name, reset_val), 0)) FROM pg_settings
      WHERE name IN ('TimeZone', 'DateStyle', 'IntervalStyle', 'extra_float_digits', 'bytea_output', 'lc_monetary',
                     'lc_numeric', 'lc_time', 'search_path', 'default_text_search_config', 'xmloption', 'xmlbinary',
                     'row_security', 'timezone_abbreviations', 'transform_null_equals', 'array_nulls')))) AS of
"""

# A setting for the role in this database, else for the role, else for the database, else the server's. What the server
# has is not seen if the one who asks has a setting of its own.
_SETTINGS: Final = """
WITH database AS (SELECT oid FROM pg_database WHERE datname = current_database()),
     settings AS (
         SELECT setrole, setdatabase, split_part(setting, '=', 1) AS name,
                substr(setting, strpos(setting, '=') + 1) AS value
           FROM pg_db_role_setting, unnest(setconfig) AS setting
          WHERE setdatabase IN (0, (SELECT oid FROM database))),
     ranked AS (
         SELECT DISTINCT ON (name, setrole) name, setrole, value
           FROM settings WHERE name = ANY($1) ORDER BY name, setrole, setdatabase DESC)
SELECT name, coalesce(r.rolname, '') AS role, value FROM ranked LEFT JOIN pg_roles r ON r.oid = setrole
UNION ALL
SELECT s.name, '', s.reset_val FROM pg_settings s
 WHERE s.name = ANY($1) AND NOT EXISTS (
       SELECT FROM ranked
        WHERE ranked.name = s.name AND setrole IN (0, (SELECT oid FROM pg_roles WHERE rolname = current_user)))
"""


async def read_rows(connection: Any) -> Rows:
    """All that routing asks of the database that `connection`, an asyncpg.Connection of its own, is for."""
    await connection.execute("SET search_path = ''")
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        return Rows(
            functions=await _all(connection, _FUNCTIONS.format(first=FIRST_NORMAL_OID), Function),
            relations=await _all(connection, _RELATIONS.format(first=FIRST_NORMAL_OID), Relation),
            types=await _all(connection, _TYPES.format(first=FIRST_NORMAL_OID), Type),
            operators=await _all(connection, _OPERATORS, Operator),
            casts=await _all(connection, _CASTS.format(first=FIRST_NORMAL_OID), Cast),
            support=await _all(connection, _SUPPORT.format(first=FIRST_NORMAL_OID), Support),
            settings=await _settings(connection),
            uses=await _all(connection, _USES.format(first=FIRST_NORMAL_OID), Use),
            foreign_keys=await _all(connection, _FOREIGN_KEYS, ForeignKey),
            date_columns=frozenset(
                [row["name"] for row in await connection.fetch(_DATE_COLUMNS.format(first=FIRST_NORMAL_OID))]
            ),
            fingerprint=await connection.fetchval(_FINGERPRINT.format(first=FIRST_NORMAL_OID)),
        )


async def _all(connection: Any, query: str, kind: type[Row]) -> list[Row]:
    return [msgspec.convert(dict(row), kind) for row in await connection.fetch(query)]


async def _settings(connection: Any) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {name: {} for name in SETTINGS}
    for row in await connection.fetch(_SETTINGS, list(SETTINGS)):
        found[row["name"]][row["role"]] = row["value"]
    return found
