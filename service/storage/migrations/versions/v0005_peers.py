"""Addresses at which other servers reach the lease holder; empty for a holder of an earlier version."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add new tables and columns; existing ones do not change."""
    op.add_column("leases", sa.Column("http", sa.Text))
    op.add_column("leases", sa.Column("grpc", sa.Text))
