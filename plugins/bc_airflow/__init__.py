"""What the DAGs and Airflow's web UI need, and nothing that `bc_pipeline` could do itself."""
