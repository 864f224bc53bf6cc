"""Migration of a database to this version's tables, from any earlier version of upres."""

import sqlalchemy as sa

from upres.service.domain.errors import StoreError

from .migrations import FOLDER
from .schema import REVISION

FIRST = "0001"  # the tables of upres 0.1, which did not record a revision


def upgrade(connection: sa.Connection) -> None:
    """Apply all missing migrations within the open transaction, which also serializes servers that start concurrently.

    Raises StoreError if the database was created by a newer upres.
    """
    revision = _revision(connection)
    if revision == REVISION:
        return
    if revision is not None and revision > REVISION:
        raise StoreError(
            f"it was created by a newer upres (revision {revision}; this one knows {REVISION}); install that version, or"
            " restore the backup from before the upgrade"
        )
    _take_steps(connection, stamped=revision is not None)


def _revision(connection: sa.Connection) -> str | None:
    """Read the database's revision; None if it has no tables yet."""
    tables = sa.inspect(connection)
    if tables.has_table("alembic_version"):
        revision = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        return None if revision is None else str(revision)
    return FIRST if tables.has_table("meta") else None


def _take_steps(connection: sa.Connection, *, stamped: bool) -> None:
    from alembic import command  # imported here: most starts have nothing to migrate
    from alembic.config import Config

    if connection.dialect.name == "postgresql":
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))  # a migration of many rows may take long
    config = Config()
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    config.attributes["connection"] = connection
    if stamped and not sa.inspect(connection).has_table("alembic_version"):
        command.stamp(config, FIRST)
    command.upgrade(config, REVISION)
