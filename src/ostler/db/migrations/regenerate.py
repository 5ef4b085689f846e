"""Writes `versions/0001_initial.py` from the schema: `python -m ostler.db.migrations.regenerate`.

For developers, until the first release. From then on a revision is never rewritten and a change of the schema is a new
file beside it, so this refuses to run as soon as there is a second one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa
from alembic.autogenerate import produce_migrations, render_python_code
from alembic.autogenerate.api import AutogenContext
from alembic.migration import MigrationContext

from ostler.db.schema import metadata

TARGET = Path(__file__).parent / "versions" / "0001_initial.py"

_HEAD = '''"""The first schema. Applied by `db/migrate.py`."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None

JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")


def upgrade() -> None:
    """Make every table."""
'''


def render() -> str:
    """The text of the first revision, as `db/schema` has it now (not yet formatted)."""
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        context = MigrationContext.configure(connection)
        operations = produce_migrations(context, metadata).upgrade_ops
        if operations is None:
            raise AssertionError("unreachable: an empty database always differs from the schema")
        body = render_python_code(operations, render_item=_portable, migration_context=context)
    engine.dispose()
    lines = (line.strip() for line in body.splitlines())
    return _HEAD + "\n".join(f"    {line}" for line in lines if line and not line.startswith("#")) + "\n"


def _portable(kind: str, item: Any, _context: AutogenContext) -> str | Literal[False]:
    """What Alembic would render for the one dialect it looks at, said so that both understand it."""
    if kind == "type" and isinstance(item, sa.JSON):
        return "JSON"
    if kind == "server_default" and isinstance(getattr(item, "arg", None), sa.True_ | sa.False_):
        return "sa.true()" if isinstance(item.arg, sa.True_) else "sa.false()"
    return False


def main() -> int:
    others = sorted(path.name for path in TARGET.parent.glob("[0-9]*.py") if path != TARGET)
    if others:
        sys.stderr.write(f"{TARGET.name} is no longer rewritten: {others[0]} builds on it; add a revision instead.\n")
        return 2
    TARGET.write_text(render())
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", str(TARGET)], check=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
