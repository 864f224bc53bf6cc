"""Bring a database to this version's tables, whichever version of upres made it."""

import sqlalchemy as sa

from upres.service.domain.errors import StoreError

from .migrations import FOLDER
from .schema import REVISION

FIRST = "0001"  # what upres 0.1 made, which wrote no revision down


def upgrade(connection: sa.Connection) -> None:
    """Take every step that is missing, in the transaction that is open: all of them, or none. Starts at once take turns.

    Raises StoreError where the database was made by a newer upres.
    """
    revision = _revision(connection)
    if revision == REVISION:
        return
    if revision is not None and revision > REVISION:
        raise StoreError(
            f"it was made by a newer upres (revision {revision}; this one knows {REVISION}); install that version, or"
            " restore the backup from before the upgrade"
        )
    _take_steps(connection, stamped=revision is not None)


def _revision(connection: sa.Connection) -> str | None:
    """Find the newest step that the database has; None where it has no tables yet."""
    tables = sa.inspect(connection)
    if tables.has_table("alembic_version"):
        revision = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        return None if revision is None else str(revision)
    return FIRST if tables.has_table("meta") else None


def _take_steps(connection: sa.Connection, *, stamped: bool) -> None:
    from alembic import command  # imported here: most starts have no step to take
    from alembic.config import Config

    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))  # a step may take long over many rows
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    if stamped and not sa.inspect(connection).has_table("alembic_version"):
        command.stamp(config, FIRST)
    command.upgrade(config, REVISION)
