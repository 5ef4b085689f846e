"""What Alembic runs to apply revisions: on the connection and in the transaction that `db/migrate.py` has opened."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import context

from ostler.db.schema import metadata

_connection: sa.Connection = context.config.attributes["connection"]

context.configure(connection=_connection, target_metadata=metadata, render_as_batch=True)
with context.begin_transaction():
    context.run_migrations()
