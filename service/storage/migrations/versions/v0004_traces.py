"""A job may belong to a trace, which its next attempt continues, also after a restart."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add what is new; nothing that was there changes."""
    op.add_column("jobs", sa.Column("traceparent", sa.Text))
