"""Names of jobs' sources, for lists."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add new tables and columns; existing ones do not change."""
    op.add_column("jobs", sa.Column("source_name", sa.Text))
