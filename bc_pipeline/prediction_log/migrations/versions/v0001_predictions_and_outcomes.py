"""Predictions and outcomes.

A migration repeats the columns of `prediction_log/tables.py` as they were: it must make the same
tables after those have changed.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "predictions",
        sa.Column("id", sa.String(36), primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("manifest_sha256", sa.String(64), nullable=False),
        sa.Column("probability", sa.Double, nullable=False),
        sa.Column("positive", sa.Boolean, nullable=False),
        sa.Column("latency", sa.Double, nullable=False),
        sa.Column("caller", sa.Text, nullable=False),
        sa.Column("route", sa.Text, nullable=False),
        sa.Column("features", sa.LargeBinary, nullable=False),
        sa.Column("sealed", sa.Boolean, nullable=False),
        sa.Column("sample_id", sa.Text),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "outcomes",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            primary_key=True,
            autoincrement=True,
        ),
        sa.Column(
            "prediction_id",
            sa.String(36),
            sa.ForeignKey("predictions.id", ondelete="CASCADE"),
            nullable=False,
        ),
        sa.Column("positive", sa.Boolean, nullable=False),
        sa.Column("observed_at", sa.Double),
        sa.Column("recorded_at", sa.Double, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("superseded_at", sa.Double),
        sqlite_autoincrement=True,
    )
    op.create_index("outcomes_of_prediction", "outcomes", ["prediction_id"])
    op.create_index(
        "one_outcome_holds",
        "outcomes",
        ["prediction_id"],
        unique=True,
        sqlite_where=sa.text("superseded_at IS NULL"),
        postgresql_where=sa.text("superseded_at IS NULL"),
    )


def downgrade() -> None:
    op.drop_table("outcomes")
    op.drop_table("predictions")
