"""Table of leases: of several servers of a database, the one that works on its jobs holds the lease."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add new tables and columns; existing ones do not change."""
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("server", sa.Text, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
    )
