"""The console through JDBC's driver itself, where Debian's package of it and a Java are installed."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from middleware.sandbox import Sandbox
from tests.conftest import Endpoint, pointsman

DRIVER: Final = Path("/usr/share/java/postgresql.jar")

PROGRAM: Final = """
import java.sql.*;

public class Console {
  static int count(ResultSet rows) throws SQLException {
    int found = 0;
    while (rows.next()) found++;
    rows.close();
    return found;
  }

  public static void main(String[] given) throws Exception {
    try (Connection client = DriverManager.getConnection(given[0], given[1], given[2])) {
      client.setClientInfo("ApplicationName", "DBeaver - Main");
      client.setReadOnly(true);
      client.setReadOnly(false);
      client.setNetworkTimeout(Runnable::run, 90000);
      // Often enough for the driver to have it prepared, and to read it in binary.
      for (int at = 0; at < 8; at++) {
        PreparedStatement statement = client.prepareStatement("SHOW NODES");
        ResultSet rows = statement.executeQuery();
        while (rows.next()) {
          rows.getTimestamp("since");
          if (at == 7) System.out.println(rows.getString("name") + " " + rows.getString("role") + " "
              + rows.getBoolean("used") + " " + rows.getDouble("weight") + " " + (rows.getInt("port") > 0));
        }
        statement.close();
      }
      client.setAutoCommit(false);
      Statement few = client.createStatement();
      few.setFetchSize(3);
      System.out.println("lists " + count(few.executeQuery("SHOW LISTS")));
      client.commit();
      client.setAutoCommit(true);
      DatabaseMetaData known = client.getMetaData();
      System.out.println(known.getDatabaseProductName() + " " + client.getCatalog() + " " + client.isValid(5));
      System.out.println(count(known.getTables(null, null, "%", null)) + count(known.getSchemas())
          + count(known.getColumns(null, null, "%", "%")) + count(known.getTypeInfo())
          + count(known.getPrimaryKeys(null, "public", "t"))
          + count(known.getIndexInfo(null, "public", "t", false, true))
          + count(known.getImportedKeys(null, "public", "t")) + count(known.getFunctions(null, "public", "%"))
          + count(known.getProcedureColumns(null, "public", "%", "%")) + count(known.getUDTs(null, null, "%", null)));
      System.out.println(count(known.getCatalogs()) + " " + known.getSQLKeywords().isEmpty() + " "
          + known.getMaxColumnNameLength() + " " + (count(known.getClientInfoProperties()) > 0));
      ResultSetMetaData described = client.prepareStatement("SHOW NODES").getMetaData();
      System.out.println(described.getColumnName(1) + " " + described.getColumnTypeName(1));
      Statement batch = client.createStatement();
      batch.setQueryTimeout(60);
      batch.addBatch("RELOAD");
      batch.addBatch("RELOAD");
      System.out.println(batch.executeBatch().length + " " + batch.getWarnings().getMessage());
      try {
        client.createStatement().execute("SHOW POOOLS");
      } catch (SQLException refused) {
        System.out.println(refused.getSQLState());
      }
      for (ResultSet rows = client.createStatement().executeQuery("SHOW CLIENTS"); rows.next(); ) {
        System.out.println(rows.getString("database") + " " + rows.getString("application_name"));
      }
    }
  }
}
"""


@pytest.fixture
def console(cluster: Sandbox, tmp_path: Path) -> Iterator[Endpoint]:
    with pointsman(cluster, tmp_path, admin_users=[cluster.user]) as running:
        yield running._replace(database="pointsman")


@pytest.mark.skipif(
    not DRIVER.exists() or shutil.which("java") is None, reason="needs java and libpostgresql-jdbc-java"
)
@pytest.mark.parametrize("mode", ["extended", "simple"])
def test_jdbc(console: Endpoint, tmp_path: Path, mode: str) -> None:
    """What it says by itself, and what DBeaver asks it."""
    program = tmp_path / "Console.java"
    program.write_text(PROGRAM)
    url = f"jdbc:postgresql://{console.host}:{console.port}/{console.database}?preferQueryMode={mode}"
    command = ["java", "-cp", str(DRIVER), str(program), url, console.user, console.password]
    told = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert told.stdout.splitlines() == [
        "db1 primary true 1.0 true",
        "db2 standby true 1.0 true",
        "db3 standby true 1.0 true",
        "lists 14",
        "PostgreSQL pointsman true",
        "0",
        "1 true 63 true",
        "name text",
        "2 nothing has changed",
        "42601",
        "pointsman DBeaver - Main",
    ], told.stderr
