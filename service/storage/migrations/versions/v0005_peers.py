"""The server that holds the lease says where the others reach it; where it is of a version before this one, nobody knows."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add what is new; nothing that was there changes."""
    op.add_column("leases", sa.Column("http", sa.Text))
    op.add_column("leases", sa.Column("grpc", sa.Text))
