"""Django on shared servers: what its backend sets up, and its transactions, as on a connection of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import django
import psycopg
import pytest
from django.conf import settings
from django.db import IntegrityError, connections, models, transaction
from django.utils import timezone
from psycopg.conninfo import conninfo_to_dict

from tests.integration.conftest import Shared

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("crowd")]

VARIANTS: Final[dict[str, dict[str, Any]]] = {
    "usual": {},
    "time zone": {"TIME_ZONE": "America/St_Johns"},
    "serializable": {"OPTIONS": {"isolation_level": psycopg.IsolationLevel.SERIALIZABLE}},
    "server-side binding": {"OPTIONS": {"server_side_binding": True}},
    "role": {"OPTIONS": {"assume_role": "staff"}},
    "no server-side cursors": {"DISABLE_SERVER_SIDE_CURSORS": True},
    "startup options": {"OPTIONS": {"options": "-c statement_timeout=5000 -c search_path=public,pg_catalog"}},
}
SESSION: Final = (
    "SELECT session_user, current_user, current_setting('TimeZone'), current_setting('transaction_isolation'),"
    " current_setting('statement_timeout'), current_setting('search_path'), current_setting('client_encoding')"
)
LEAP_DAY: Final = datetime(2024, 2, 29, 23, 45, tzinfo=UTC)


@pytest.fixture(scope="module")
def item() -> Any:
    """A model, in a Django that is set up for the rest of the run."""
    settings.configure(USE_TZ=True, TIME_ZONE="UTC", DATABASES={}, DEFAULT_AUTO_FIELD="django.db.models.BigAutoField")
    django.setup()
    fields = {
        "name": models.TextField(unique=True),
        "at": models.DateTimeField(null=True),
        "price": models.DecimalField(max_digits=9, decimal_places=2, null=True),
    }
    meta = type("Meta", (), {"app_label": "shop", "db_table": "item", "managed": False})
    return type("Item", (models.Model,), {"__module__": __name__, "Meta": meta, **fields})


@pytest.fixture(autouse=True)
def _table(shared: Shared) -> Iterator[None]:
    """The model's table with the items 1 to 500, and a role to assume."""
    shared.cluster.query("CREATE ROLE staff; GRANT staff TO app; GRANT CREATE ON SCHEMA public TO staff")
    shared.make(
        "CREATE TABLE item (id bigserial PRIMARY KEY, name text UNIQUE, at timestamptz, price numeric(9, 2));"
        "INSERT INTO item (name) SELECT 'item ' || n FROM generate_series(1, 500) n;"
        "GRANT ALL ON item, item_id_seq TO staff"
    )
    yield
    shared.cluster.query("DROP OWNED BY staff; DROP ROLE staff")


@contextmanager
def connected(url: str, **variant: Any) -> Iterator[Any]:
    """Django's connection to a database that its settings know by an alias."""
    told = conninfo_to_dict(url)
    place = {name.upper(): told[name] for name in ("user", "password", "host", "port")}
    database = {"ENGINE": "django.db.backends.postgresql", "NAME": told["dbname"], **place, **variant}
    connections.databases.update(connections.configure_settings({"default": {}, "shop": database}))
    try:
        yield connections["shop"]
    finally:
        connections["shop"].close()
        del connections["shop"], connections.databases["shop"]


def ask(connection: Any, question: str) -> list[Any]:
    with connection.cursor() as cursor:
        cursor.execute(question)
        rows: list[Any] = cursor.fetchall()
        return rows


def use(connection: Any, item: Any) -> list[Any]:
    """A day in the life of a connection, and what came of it."""
    seen = ask(connection, SESSION)
    items = item.objects.using("shop")
    with transaction.atomic(using="shop"):
        items.create(name="new", at=LEAP_DAY, price="1.10")
        seen += ask(connection, SESSION)
        with pytest.raises(IntegrityError), transaction.atomic(using="shop"):
            items.create(name="new")
        with transaction.atomic(using="shop"):
            items.create(name="undone")
            transaction.set_rollback(True, using="shop")
        seen.append(items.select_for_update().filter(name__in=["new", "undone"]).count())
    seen += items.filter(name="new").values_list("name", "at", "price")
    seen += ask(connection, "SELECT at::text FROM item WHERE name = 'new'")
    with timezone.override("Asia/Kathmandu"):
        seen += items.filter(name="new").values_list("at__hour")
    connection.set_autocommit(False)
    items.filter(name="new").delete()
    seen.append(items.count())
    connection.rollback()
    connection.set_autocommit(True)
    items.filter(name="new").delete()
    seen.append(items.count())
    return seen


def iterate(connection: Any, item: Any) -> list[Any]:
    """Iterators, to their end and not, within a transaction and without: then a cursor outlives its transaction."""
    names = item.objects.using("shop").order_by("id").values_list("name", flat=True)
    seen: list[Any] = []
    for number, name in enumerate(names.iterator(chunk_size=100)):
        if number % 150 == 0:
            seen += [name, names.count(), len(ask(connection, "SELECT FROM pg_cursors WHERE is_holdable"))]
    abandoned = names.iterator(chunk_size=10)
    seen.append(next(abandoned))
    abandoned.close()
    seen.append(ask(connection, "SELECT count(*) FROM pg_cursors WHERE is_holdable"))
    with transaction.atomic(using="shop"):
        seen += list(names.iterator(chunk_size=100))
    return seen


def change_the_schema(connection: Any) -> list[Any]:
    with connection.schema_editor() as editor:
        editor.execute(
            "CREATE TABLE made (id int PRIMARY KEY, item bigint REFERENCES item DEFERRABLE INITIALLY DEFERRED)"
        )
    connection.check_constraints()
    seen = [sorted(table.name for table in connection.introspection.get_table_list(connection.cursor()))]
    with transaction.atomic(using="shop"):
        ask(connection, "INSERT INTO made VALUES (1, -1) RETURNING id")
        # It has constraints that are checked at COMMIT checked at once.
        with pytest.raises(IntegrityError), transaction.atomic(using="shop"):
            connection.check_constraints()
        transaction.set_rollback(True, using="shop")
    with connection.schema_editor() as editor:
        editor.execute("DROP TABLE made")
    return seen


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_django(shared: Shared, item: Any, variant: dict[str, Any]) -> None:
    seen = {}
    said: dict[str, list[str | None]] = {"direct": [], "pointsman": []}
    for way, url in shared.urls().items():
        with connected(url, **variant) as connection:
            connection.ensure_connection()
            connection.connection.add_notice_handler(lambda notice, told=said[way]: told.append(notice.sqlstate))
            seen[way] = use(connection, item) + iterate(connection, item)
            connection.close()
            # The next one is set up anew, and once more.
            seen[way] += ask(connection, SESSION)
            connection.init_connection_state()
            seen[way] += ask(connection, SESSION)
    assert seen["pointsman"] == seen["direct"]
    # An iterator that is in no transaction has a cursor WITH HOLD.
    held = [] if variant.get("DISABLE_SERVER_SIDE_CURSORS") else ["01PS7"]
    assert said == {"direct": [], "pointsman": held}


@pytest.mark.usefixtures("item")
def test_django_changes_the_schema(shared: Shared) -> None:
    seen = {}
    for way, url in shared.urls().items():
        with connected(url) as connection:
            seen[way] = change_the_schema(connection)
    assert seen["pointsman"] == seen["direct"]


def test_two_djangos(shared: Shared, item: Any) -> None:
    """A role and a time zone are one's own, however the servers go to and fro."""
    url = shared.urls()["pointsman"]
    with (
        connected(url, TIME_ZONE="Asia/Tokyo", OPTIONS={"assume_role": "staff"}) as ours,
        psycopg.connect(url) as other,
    ):
        for _ in range(5):
            assert ask(ours, "SELECT current_user, current_setting('TimeZone')") == [("staff", "Asia/Tokyo")]
            assert other.execute("SELECT current_user").fetchone() == ("app",)
            with transaction.atomic(using="shop"):
                assert ask(ours, "SELECT current_user, current_setting('TimeZone')") == [("staff", "Asia/Tokyo")]
                other.rollback()
                assert other.execute("SELECT current_user").fetchone() == ("app",)
            other.commit()
