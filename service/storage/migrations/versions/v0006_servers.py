"""A job that has not ended belongs to the server that works on it; where that is of a version before this one, to none."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add what is new; nothing that was there changes."""
    op.add_column("jobs", sa.Column("server", sa.Text))
