"""Tables of the records database at the newest revision."""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()

predictions = sa.Table(
    "predictions",
    metadata,
    # UUIDs of version 7 sort by time: a range of time is a range of ids and needs no index.
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("at", sa.Double, nullable=False),
    sa.Column("version", sa.Text, nullable=False),
    sa.Column("manifest_sha256", sa.String(64), nullable=False),
    sa.Column("probability", sa.Double, nullable=False),
    sa.Column("positive", sa.Boolean, nullable=False),
    sa.Column("latency", sa.Double, nullable=False),
    sa.Column("caller", sa.Text, nullable=False),
    sa.Column("route", sa.Text, nullable=False),
    # Little-endian float64 in the schema's order; where `sealed`, encrypted with the sample id.
    sa.Column("features", sa.LargeBinary, nullable=False),
    sa.Column("sealed", sa.Boolean, nullable=False),
    sa.Column("sample_id", sa.Text),
    sqlite_with_rowid=False,
)

outcomes = sa.Table(
    "outcomes",
    metadata,
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
    # Set when a correction replaced this row.
    sa.Column("superseded_at", sa.Double),
    sa.Index("outcomes_of_prediction", "prediction_id"),
    sa.Index(
        "one_outcome_holds",
        "prediction_id",
        unique=True,
        sqlite_where=sa.text("superseded_at IS NULL"),
        postgresql_where=sa.text("superseded_at IS NULL"),
    ),
    sqlite_autoincrement=True,
)
