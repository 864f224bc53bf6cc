"""Several servers may wait for the jobs of one database; the one that works on them holds a lease."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add what is new; nothing that was there changes."""
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("server", sa.Text, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
    )
