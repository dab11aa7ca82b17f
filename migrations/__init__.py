"""The book's tables over time, as Alembic revisions; packed into the wheel, found by `files("migrations")`."""
