"""Answered predictions and reported outcomes: append log, database, migrations."""
