"""What was answered and what turned out true: append log, database, migrations."""
