"""From landed files to datasets: ingest, as-of snapshots, splits, expectation suites."""
