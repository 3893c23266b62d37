"""Statements that belong on a standby, as applications, drivers and people write them."""

from typing import Final

from tests.oracle.schema import CLERK
from tests.oracle.statement import Statement, Where


def _of(
    group: str, *texts: str, user: str = "app", varies: bool = False, where: Where = Where.STANDBY
) -> list[Statement]:
    return [Statement(text, where, group, user=user, varies=varies) for text in texts]


def _with(group: str, *pairs: tuple[str, tuple[str, ...]]) -> list[Statement]:
    return [Statement(text, Where.STANDBY, group, arguments=arguments) for text, arguments in pairs]


READS: Final = [
    *_of(
        "plain queries",
        "SELECT 1",
        "SELECT 1;",
        "select 1 ; ",
        "SELECT",
        "TABLE plain",
        "TABLE plain ORDER BY id LIMIT 3",
        "VALUES (1, 'a'), (2, 'b')",
        "SELECT * FROM plain",
        "SELECT * FROM ONLY plain",
        "SELECT p.*, d.* FROM plain p JOIN detail d ON d.plain_id = p.id",
        "SELECT p FROM plain p",
        "SELECT ctid, xmin, tableoid::regclass, id FROM plain",
        "SELECT row_to_json(p), to_jsonb(p.*), p IS NULL FROM plain p",
        'SELECT COLLATION FOR (owner), owner COLLATE "C" FROM plain',
        "SELECT made AT TIME ZONE 'UTC', (made, made) OVERLAPS (made, made) FROM plain",
        "SELECT (p).owner FROM plain p",
        "SELECT owner, count(*), sum(amount), avg(amount), min(made), max(made) FROM plain GROUP BY owner",
        "SELECT owner, count(*) FROM plain GROUP BY ROLLUP (owner) HAVING count(*) > 1",
        "SELECT DISTINCT owner FROM plain",
        "SELECT DISTINCT ON (owner) owner, id FROM plain ORDER BY owner, id",
        "SELECT id, row_number() OVER (PARTITION BY owner ORDER BY id), lag(id) OVER (ORDER BY id) FROM plain",
        "SELECT id, ntile(3) OVER (ORDER BY id), first_value(id) OVER (ORDER BY id) FROM plain",
        "SELECT array_agg(id ORDER BY id DESC), string_agg(owner, ','), json_agg(doc), bool_and(active) FROM plain",
        "SELECT mode() WITHIN GROUP (ORDER BY owner), percentile_disc(0.5) WITHIN GROUP (ORDER BY id) FROM plain",
        "WITH RECURSIVE t(n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT sum(n) FROM t",
        "SELECT id FROM plain EXCEPT SELECT plain_id FROM detail WHERE id > 3",
        "SELECT id FROM plain UNION SELECT id FROM detail ORDER BY id LIMIT 5 OFFSET 2",
        "SELECT * FROM plain CROSS JOIN LATERAL (SELECT note FROM detail WHERE plain_id = plain.id ORDER BY id LIMIT "
        "1) d",
        "SELECT * FROM plain LEFT JOIN detail USING (id) WHERE detail.id IS NULL",
        "SELECT CASE WHEN amount > 5 THEN 'much' WHEN amount IS NULL THEN 'none' ELSE 'little' END FROM plain",
        "SELECT id FROM plain WHERE owner LIKE 'own%' AND owner ILIKE '%1' AND owner ~ '^o' AND owner SIMILAR TO 'o%'",
        "SELECT id FROM plain WHERE made BETWEEN '2024-01-02' AND '2024-01-05'",
        "SELECT id FROM plain WHERE tags @> ARRAY['b3'] OR 'a' = ANY (tags) OR tags && ARRAY['b4']",
        "SELECT doc -> 'list' -> 0, doc ->> 'n', doc #>> '{list,1}', doc @> '{\"n\": 1}', doc ? 'n' FROM plain",
        "SELECT jsonb_path_query(doc, '$.list[*]'), jsonb_array_elements(doc -> 'list') FROM plain",
        "SELECT to_tsvector('english', owner) @@ to_tsquery('english', 'owner1') FROM plain",
        "SELECT extract(epoch FROM made), date_trunc('month', made), made + interval '1 day', age(made, made) FROM "
        "plain",
        "SELECT to_char(amount, '999D99'), round(amount), upper(owner), substring(owner FROM 2 FOR 3) FROM plain",
        "SELECT trim(both 'o' from owner), position('n' in owner), overlay(owner placing 'x' from 1) FROM plain",
        "SELECT id::text || '-' || owner, concat(id, owner), format('%s/%s', id, owner), md5(owner) FROM plain",
        "SELECT int4range(1, 5) @> 3, '[2024-01-01,2024-01-05)'::tstzrange, point(1, 2) <-> point(3, 4)",
        "SELECT feeling, feeling > 'calm', enum_range(NULL::mood) FROM plain",
        "SELECT unnest(ARRAY[1, 2]), generate_series(1, 3)",
        "SELECT * FROM unnest(ARRAY[1, 2], ARRAY['a', 'b']) WITH ORDINALITY AS t(a, b, n)",
        "SELECT * FROM jsonb_to_recordset('[{\"a\": 1}]') AS t(a int)",
        "SELECT * FROM generate_series('2024-01-01'::timestamptz, '2024-01-03', '1 day')",
        "SELECT count(*) FROM plain TABLESAMPLE system (100)",
        "SELECT GROUPING(owner), count(*) FROM plain GROUP BY CUBE (owner, active)",
        "SELECT '2024-01-01'::date, CAST('1' AS numeric(10, 2)), B'101', X'FF', E'a\\nb', U&'\\0041', $$quoted ; "
        "text$$",
        'SELECT "Id", "select" FROM "Odd Table" AS "INSERT INTO"',
        "SELECT 'INSERT INTO marks VALUES (1)' AS \"DELETE\"",
        "SELECT 'nextval(''mark'')', $a$SELECT vol_sql(1)$a$",
        "WITH fleeting AS (SELECT 1 AS id) SELECT * FROM fleeting",
        "WITH vol_view AS (SELECT 1 AS id), nested_view AS (SELECT id FROM vol_view) SELECT * FROM nested_view",
        "SELECT vol_sql FROM (SELECT 1 AS vol_sql) s",
        "SELECT s.nextval FROM (SELECT 1 AS nextval) s",
        "SELECT * FROM stored WHERE id = 3",
        "SELECT * FROM parts WHERE kind = 'a'",
        "SELECT * FROM numbered",
    ),
    *_of(
        "comments",
        "/* a */ SELECT /* b */ 1 /* c */ -- d",
        "SELECT 1 /* INSERT INTO marks VALUES (1); */",
        "-- INSERT\nSELECT 1",
        "SELECT 1 -- ; DELETE FROM marks",
        "SELECT id FROM plain "
        "/*action='index',controller='users',traceparent='00-5bd66ef5095369c7b0d1f8f4bd33716a-01'*/",
        "/* /* nested */ still */ SELECT 1",
        "SELECT/**/id/**/FROM/**/plain",
    ),
    *_of(
        "clock and session",
        "SELECT now()",
        "SELECT CURRENT_TIMESTAMP, CURRENT_DATE, LOCALTIME, LOCALTIMESTAMP(0), transaction_timestamp()",
        "SELECT statement_timestamp(), clock_timestamp(), timeofday()",
        "SELECT random(), gen_random_uuid()",
        "SELECT id FROM plain ORDER BY random() LIMIT 1",
        "SELECT id, made < now() - interval '1 day' FROM plain",
        "SELECT id FROM plain TABLESAMPLE bernoulli (50)",
        varies=True,
    ),
    *_of(
        "clock and session",
        "SELECT current_user, session_user, current_database(), current_catalog, current_schema, user",
        "SELECT current_schema(), current_schemas(true), current_role",
        "SELECT current_setting('TimeZone'), current_setting('server_version_num')::int",
        "SELECT current_setting('TimeZone')",
        "SELECT current_setting('search_path')",
        "SHOW TimeZone",
        "SHOW TIME ZONE",
        "SHOW server_version",
        "SHOW standard_conforming_strings",
        "SHOW search_path",
        "SHOW client_encoding",
        "SHOW max_identifier_length",
        "SHOW transaction_isolation",
        "SHOW TRANSACTION ISOLATION LEVEL",
        "SELECT version()",
        "SELECT pg_catalog.version()",
    ),
    *_of(
        "EXPLAIN and COPY",
        "EXPLAIN SELECT * FROM plain",
        "EXPLAIN (COSTS OFF) SELECT * FROM plain WHERE id = 1",
        "EXPLAIN VERBOSE SELECT * FROM honest_view",
        "EXPLAIN ANALYZE SELECT * FROM plain",
        "EXPLAIN (ANALYZE, BUFFERS, FORMAT json) SELECT count(*) FROM plain",
        "COPY plain TO STDOUT",
        "COPY public.plain (id, owner) TO STDOUT WITH (FORMAT csv, HEADER)",
        "COPY (SELECT id FROM plain ORDER BY id) TO STDOUT",
        "COPY (TABLE stored) TO STDOUT (DELIMITER '|')",
        "COPY (VALUES (1), (2)) TO STDOUT",
        "COPY plain TO STDOUT CSV",
    ),
    *_of(
        "EXPLAIN of a write",
        "EXPLAIN INSERT INTO marks VALUES (1)",
        "EXPLAIN (ANALYZE off) DELETE FROM marks",
        "EXPLAIN (ANALYZE, ANALYZE 0) DELETE FROM marks",
        "EXPLAIN SELECT vol_plpgsql(1)",
        "EXPLAIN SELECT * FROM vol_view",
        where=Where.EITHER,
    ),
    *_of(
        "harmless, but hard to know",
        "SELECT 1; SELECT 2",
        "",
        ";",
        "SELECT pg_relation_size('plain'), pg_total_relation_size('plain'), "
        "pg_size_pretty(pg_database_size('postgres'))",
        "SELECT * FROM watched",
        "/*NO LOAD BALANCE*/ SELECT 1",
        "SELECT name, default_version FROM pg_available_extensions ORDER BY name",
        "SELECT sequencename, increment_by FROM pg_sequences ORDER BY 1",
        "SHOW cluster_name",
        "SHOW port",
        "SHOW default_transaction_read_only",
        "SELECT pg_backend_pid()",
        "SELECT inet_server_addr(), inet_server_port()",
        "SELECT pg_postmaster_start_time()",
        "SELECT pg_sleep(0)",
        "SELECT lo_get(424242)",
        "SELECT encode(lo_get(424242, 0, 3), 'escape')",
        "SELECT txid_current_if_assigned()",
        "SELECT pg_current_snapshot()",
        "SELECT vol_plpgsql FROM plain AS vol_plpgsql",
        "SELECT CASE WHEN false THEN 1 ELSE 2 END",
        where=Where.EITHER,
        varies=True,
    ),
    *_of(
        "row security",
        "SELECT * FROM fenced",
        "SELECT count(*) FROM fenced WHERE owner = 'a'",
        "SELECT * FROM plain WHERE id IN (SELECT id FROM fenced)",
        "SELECT * FROM honest_view",
        "SELECT * FROM parts",
        user=CLERK,
    ),
    *_of(
        "fail alike everywhere",
        "SELECT 1 / 0",
        "SELECT * FROM no_such_table",
        "SELECT no_such_function(1)",
        "SELECT 'x'::int",
        "SELECT id FROM plain GROUP BY owner",
        "COPY no_such_table TO STDOUT",
        where=Where.EITHER,
    ),
    *_with(
        "ORM",
        # SQLAlchemy
        (
            "SELECT plain.id AS plain_id, plain.owner AS plain_owner, plain.made AS plain_made \nFROM plain \n"
            "WHERE plain.id = $1::INTEGER",
            ("1",),
        ),
        (
            "SELECT count(*) AS count_1 \nFROM (SELECT plain.id AS id FROM plain WHERE plain.owner = $1::VARCHAR) AS "
            "anon_1",
            ("owner1",),
        ),
        (
            "SELECT detail.plain_id AS detail_plain_id, detail.id AS detail_id FROM detail WHERE detail.plain_id IN "
            "($1::INTEGER, $2::INTEGER)",
            ("1", "2"),
        ),
        (
            "SELECT anon_1.plain_id, detail_1.id FROM (SELECT plain.id AS plain_id FROM plain LIMIT $1::INTEGER) AS "
            "anon_1 "
            "LEFT OUTER JOIN detail AS detail_1 ON anon_1.plain_id = detail_1.plain_id ORDER BY detail_1.id",
            ("20",),
        ),
        ("SELECT EXISTS (SELECT 1 FROM plain WHERE plain.owner = $1::VARCHAR) AS anon_1", ("owner1",)),
        # Django
        ('SELECT "plain"."id", "plain"."owner" FROM "plain" WHERE "plain"."id" = $1 LIMIT 21', ("1",)),
        ('SELECT COUNT(*) AS "__count" FROM "plain" WHERE "plain"."owner"::text LIKE UPPER($1)', ("O%",)),
        (
            'SELECT 1 AS "a" FROM "plain" INNER JOIN "detail" ON ("plain"."id" = "detail"."plain_id") WHERE '
            '("plain"."active" AND UPPER("detail"."note"::text) = UPPER($1)) LIMIT 1',
            ("note 1",),
        ),
        # ActiveRecord
        ('SELECT "plain".* FROM "plain" WHERE "plain"."id" = $1 LIMIT $2', ("1", "1")),
        ('SELECT 1 AS one FROM "plain" WHERE "plain"."owner" = $1 LIMIT $2', ("owner1", "1")),
        ('SELECT "plain".* FROM "plain" ORDER BY "plain"."id" ASC LIMIT $1 OFFSET $2', ("2", "3")),
        # Hibernate
        (
            "select p1_0.id,p1_0.owner,d1_0.plain_id,d1_0.id from plain p1_0 left join detail d1_0 on "
            "p1_0.id=d1_0.plain_id where p1_0.id=$1",
            ("1",),
        ),
        (
            "select p1_0.id from plain p1_0 where lower(p1_0.owner) like $1 escape '' order by p1_0.id offset $2 rows "
            "fetch first $3 rows only",
            ("own%", "1", "5"),
        ),
        # Prisma, Sequelize, TypeORM
        (
            'SELECT "public"."plain"."id", "public"."plain"."feeling"::text FROM "public"."plain" WHERE '
            '("public"."plain"."id" = $1 AND 1=1) LIMIT $2 OFFSET $3',
            ("1", "1", "0"),
        ),
        (
            'SELECT "plain"."id", "details"."id" AS "details.id" FROM "plain" AS "plain" LEFT OUTER JOIN "detail" AS '
            '"details" ON "plain"."id" = "details"."plain_id" WHERE "plain"."owner" = $1',
            ("owner2",),
        ),
        (
            'SELECT DISTINCT "distinctAlias"."P_id" AS "ids_P_id" FROM (SELECT "P"."id" AS "P_id" FROM "plain" "P" '
            "WHERE "
            '"P"."id" IN ($1)) "distinctAlias" ORDER BY "P_id" ASC LIMIT 1',
            ("1",),
        ),
        # Ecto, Laravel, GORM, Diesel
        ('SELECT p0."id", p0."owner" FROM "plain" AS p0 WHERE (p0."id" = $1)', ("1",)),
        ('SELECT p0."id" FROM "plain" AS p0 WHERE (p0."id" = ANY($1))', ("{1,2}",)),
        (
            'select * from "plain" where "owner" = $1 and "active" = $2 order by "made" desc limit 15 offset 0',
            ("a", "t"),
        ),
        ('select count(*) as aggregate from "plain" where "plain"."id" in (1, 2, 3) and $1', ("t",)),
        ('SELECT * FROM "plain" WHERE "plain"."id" = $1 ORDER BY "plain"."id" LIMIT $2', ("1", "1")),
        ('SELECT "plain"."id" FROM "plain" WHERE ("plain"."doc" @> $1::jsonb)', ('{"n": 1}',)),
        # Keyset pagination, full text, upsert's look before
        ("SELECT id FROM plain WHERE (made, id) > ($1, $2) ORDER BY made, id LIMIT $3", ("2024-01-03", "3", "3")),
        (
            "SELECT ts_rank(to_tsvector(owner), plainto_tsquery($1)), ts_headline(owner, to_tsquery($1)) FROM plain",
            ("x",),
        ),
    ),
]
