"""Pages inside Airflow's web UI: the gate's verdict on a run, the models on a DAG."""
