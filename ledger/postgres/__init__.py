"""How the ledger reaches Postgres: URLs, connections, roles, migrations, and an embedded server for want of another."""
