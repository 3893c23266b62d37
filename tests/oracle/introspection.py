"""What drivers, ORMs and psql read from the catalog. Condensed from what they send; all belongs on a standby."""

from typing import Final

from tests.oracle.statement import Statement, Where

_TEXTS: Final = (
    # information_schema
    "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY table_name",
    "SELECT column_name, data_type, is_nullable, column_default FROM information_schema.columns "
    "WHERE table_name = 'plain' ORDER BY ordinal_position",
    "SELECT constraint_name, constraint_type FROM information_schema.table_constraints WHERE table_name = 'detail'",
    "SELECT kcu.column_name FROM information_schema.key_column_usage kcu "
    "JOIN information_schema.referential_constraints rc USING (constraint_name)",
    "SELECT schema_name FROM information_schema.schemata",
    "SELECT sequence_name FROM information_schema.sequences WHERE sequence_schema = 'public'",
    "SELECT table_name, view_definition FROM information_schema.views WHERE table_schema = 'public'",
    "SELECT routine_name, data_type FROM information_schema.routines WHERE routine_schema = 'public'",
    "SELECT grantee, privilege_type FROM information_schema.role_table_grants WHERE table_name = 'plain'",
    "SELECT EXISTS (SELECT FROM information_schema.tables WHERE table_name = 'plain')",
    # pg_catalog's views
    "SELECT tablename FROM pg_tables WHERE schemaname = ANY (current_schemas(false))",
    "SELECT tablename FROM pg_catalog.pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
    "SELECT viewname, definition FROM pg_catalog.pg_views WHERE schemaname = 'public'",
    "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'plain'",
    "SELECT matviewname FROM pg_matviews",
    "SELECT extname, extversion FROM pg_extension",
    "SELECT rolname, rolsuper FROM pg_roles WHERE rolname = current_user",
    "SELECT usename FROM pg_user",
    "SELECT datname, pg_encoding_to_char(encoding), datcollate FROM pg_database WHERE datname = current_database()",
    "SELECT abbrev, utc_offset FROM pg_timezone_abbrevs ORDER BY 1, 2",
    # SQLAlchemy
    "select pg_catalog.version()",
    "select current_schema()",
    "SELECT pg_catalog.pg_class.relname FROM pg_catalog.pg_class JOIN pg_catalog.pg_namespace ON "
    "pg_catalog.pg_namespace.oid = pg_catalog.pg_class.relnamespace WHERE pg_catalog.pg_class.relname = 'plain' AND "
    "pg_catalog.pg_class.relkind = ANY (ARRAY['r', 'p', 'f', 'v', 'm']) AND "
    "pg_catalog.pg_table_is_visible(pg_catalog.pg_class.oid)",
    "SELECT a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod), "
    "(SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d WHERE d.adrelid = a.attrelid AND "
    "d.adnum = a.attnum AND a.atthasdef) AS default, a.attnotnull, pg_catalog.col_description(a.attrelid, a.attnum) "
    "FROM pg_catalog.pg_attribute a WHERE a.attrelid = 'plain'::regclass AND a.attnum > 0 AND NOT a.attisdropped",
    "SELECT r.conname, pg_catalog.pg_get_constraintdef(r.oid, true) FROM pg_catalog.pg_constraint r, "
    "pg_catalog.pg_class c WHERE r.conrelid = c.oid AND r.contype = 'f' ORDER BY 1",
    "SELECT t.oid, typarray FROM pg_type t JOIN pg_namespace ns ON typnamespace = ns.oid WHERE typname = 'hstore'",
    "SELECT n.nspname FROM pg_namespace n WHERE n.nspname NOT LIKE 'pg_%' ORDER BY n.nspname",
    "SELECT t.typname, array_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_type t "
    "LEFT JOIN pg_enum e ON t.oid = e.enumtypid WHERE t.typtype = 'e' GROUP BY t.typname",
    # ActiveRecord
    "SELECT t.oid, t.typname, t.typelem, t.typdelim, t.typinput, r.rngsubtype, t.typtype, t.typbasetype FROM pg_type t "
    "LEFT JOIN pg_range r ON t.oid = r.rngtypid WHERE t.typname IN ('int4', 'text')",
    "SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid), a.attnotnull, "
    "a.atttypid, a.atttypmod, c.collname, col_description(a.attrelid, a.attnum) AS comment, attidentity, attgenerated "
    "FROM pg_attribute a LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum LEFT JOIN pg_type t "
    "ON "
    "a.atttypid = t.oid LEFT JOIN pg_collation c ON a.attcollation = c.oid AND a.attcollation <> t.typcollation "
    "WHERE a.attrelid = '\"plain\"'::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum",
    "SELECT a.attname FROM (SELECT indrelid, indkey, generate_subscripts(indkey, 1) idx FROM pg_index "
    "WHERE indrelid = '\"plain\"'::regclass AND indisprimary) i JOIN pg_attribute a ON a.attrelid = i.indrelid AND "
    "a.attnum = i.indkey[i.idx] ORDER BY i.idx",
    "SELECT c.relname FROM pg_class c LEFT JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE n.nspname = ANY (current_schemas(false)) AND c.relname = 'plain' AND c.relkind IN ('r', 'p')",
    "SHOW max_identifier_length",
    "SELECT obj_description('plain'::regclass)",
    # Django
    "SELECT c.relname, CASE WHEN c.relispartition THEN 'p' WHEN c.relkind IN ('m', 'v') THEN 'v' ELSE 't' END, "
    "obj_description(c.oid, 'pg_class') FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n "
    "ON n.oid = c.relnamespace WHERE c.relkind IN ('f', 'm', 'p', 'r', 'v') AND n.nspname NOT IN ('pg_catalog', "
    "'pg_toast') AND pg_catalog.pg_table_is_visible(c.oid)",
    "SELECT pg_get_serial_sequence('serially', 'id')",
    "SELECT indexname, array_agg(attname ORDER BY arridx), indisunique, array_agg(ordering ORDER BY arridx), amname "
    "FROM (SELECT c2.relname AS indexname, idx.*, attr.attname, am.amname, CASE (option & 1) WHEN 1 THEN 'DESC' ELSE "
    "'ASC' END AS ordering FROM (SELECT *, unnest(i.indkey) AS key, unnest(i.indoption) AS option, "
    "generate_series(1, array_length(i.indkey, 1)) AS arridx FROM pg_index i) idx LEFT JOIN pg_class c ON "
    "idx.indrelid = c.oid LEFT JOIN pg_class c2 ON idx.indexrelid = c2.oid LEFT JOIN pg_am am ON c2.relam = am.oid "
    "LEFT JOIN pg_attribute attr ON attr.attrelid = c.oid AND attr.attnum = idx.key WHERE c.relname = 'plain') s "
    "GROUP BY indexname, indisunique, amname",
    # pgjdbc, Npgsql, asyncpg, psycopg
    "SELECT e.typdelim FROM pg_catalog.pg_type t, pg_catalog.pg_type e WHERE t.typname = '_int4' AND t.typelem = e.oid",
    "SELECT result.TABLE_CAT, result.COLUMN_NAME FROM (SELECT current_database() AS TABLE_CAT, a.attname AS "
    "COLUMN_NAME, "
    "(information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ, information_schema._pg_expandarray(i.indkey) AS "
    "keys, "
    "a.attnum AS a_attnum FROM pg_catalog.pg_class ct JOIN pg_catalog.pg_attribute a ON ct.oid = a.attrelid JOIN "
    "pg_catalog.pg_index i ON a.attrelid = i.indrelid WHERE ct.relname = 'plain' AND i.indisprimary) result "
    "WHERE result.A_ATTNUM = (result.KEYS).x",
    "SELECT ns.nspname, t.oid, t.typname, t.typtype, t.typnotnull, t.elemtypoid FROM (SELECT typ.oid, "
    "typ.typnamespace, "
    "typ.typname, typ.typtype, typ.typnotnull, elemtyp.oid AS elemtypoid FROM pg_type AS typ LEFT JOIN pg_type AS "
    "elemtyp "
    "ON elemtyp.oid = typ.typelem) AS t JOIN pg_namespace AS ns ON (ns.oid = t.typnamespace) WHERE t.typtype IN "
    "('b', 'r', 'm', 'e', 'd') ORDER BY t.oid",
    "WITH RECURSIVE typeinfo_tree(oid, typelem, depth) AS (SELECT t.oid, t.typelem, 0 FROM pg_catalog.pg_type t WHERE "
    "t.oid = ANY ('{1007,25}'::oid[]) UNION ALL SELECT t.oid, t.typelem, tt.depth + 1 FROM pg_catalog.pg_type t, "
    "typeinfo_tree tt WHERE tt.typelem > 0 AND t.oid = tt.typelem) SELECT DISTINCT oid, depth FROM typeinfo_tree",
    "SELECT typname AS name, oid, typarray AS array_oid, oid::regtype::text AS regtype, typdelim AS delimiter "
    "FROM pg_type t WHERE t.oid = to_regtype('mood') ORDER BY t.oid",
    "SELECT castsource::regtype, casttarget::regtype FROM pg_cast WHERE castmethod = 'f' ORDER BY 1, 2",
    # psql
    "SELECT n.nspname AS \"Schema\", c.relname AS \"Name\", CASE c.relkind WHEN 'r' THEN 'table' WHEN 'v' THEN 'view' "
    'END AS "Type", pg_catalog.pg_get_userbyid(c.relowner) AS "Owner" FROM pg_catalog.pg_class c LEFT JOIN '
    "pg_catalog.pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_catalog.pg_am am ON am.oid = c.relam WHERE "
    "c.relkind IN ('r','p','v','m','S','f','') AND n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_toast' AND "
    "n.nspname <> 'information_schema' AND pg_catalog.pg_table_is_visible(c.oid) ORDER BY 1,2;",
    "SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c LEFT JOIN pg_catalog.pg_namespace n ON n.oid = "
    "c.relnamespace WHERE c.relname OPERATOR(pg_catalog.~) '^(plain)$' COLLATE pg_catalog.default AND "
    "pg_catalog.pg_table_is_visible(c.oid) ORDER BY 2, 3;",
    "SELECT p.proname, pg_catalog.pg_get_function_result(p.oid), pg_catalog.pg_get_function_arguments(p.oid) FROM "
    "pg_catalog.pg_proc p LEFT JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'public'",
    "SELECT pg_catalog.pg_get_viewdef('honest_view'::regclass, true)",
    "SELECT pg_catalog.pg_get_indexdef(i.indexrelid, 0, true) FROM pg_catalog.pg_index i WHERE i.indrelid = "
    "'plain'::pg_catalog.regclass",
    "SELECT conname, pg_catalog.pg_get_constraintdef(oid, true) FROM pg_catalog.pg_constraint c WHERE confrelid IN "
    "(SELECT pg_catalog.pg_partition_ancestors('plain') UNION ALL VALUES ('plain'::pg_catalog.regclass)) AND "
    "contype = 'f' AND conparentid = 0 ORDER BY conname",
    "SELECT d.datname, pg_catalog.pg_get_userbyid(d.datdba), pg_catalog.array_to_string(d.datacl, E'\\n') FROM "
    "pg_catalog.pg_database d ORDER BY 1",
    "SELECT to_regclass('public.plain'), 'plain'::regclass::oid > 0, to_regtype('int')",
    "SELECT has_table_privilege('plain', 'SELECT'), has_schema_privilege('public', 'USAGE'), pg_has_role('app', "
    "'MEMBER')",
    "SELECT reltuples::bigint FROM pg_class WHERE relname = 'plain'",
    "SELECT pg_get_functiondef('honest_stable(int)'::regprocedure)",
    "SELECT * FROM pg_stats WHERE tablename = 'plain' AND attname = 'id'",
    "SELECT attname, n_distinct FROM pg_catalog.pg_stats WHERE tablename = 'plain'",
    "SELECT policyname, qual FROM pg_policies",
)

INTROSPECTION: Final = [Statement(text, Where.STANDBY, "catalog") for text in _TEXTS]
