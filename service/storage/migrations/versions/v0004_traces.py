"""Trace context of a job, which its attempts continue even after a restart."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Add new tables and columns; existing ones do not change."""
    op.add_column("jobs", sa.Column("traceparent", sa.Text))
