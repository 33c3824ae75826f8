"""How Airflow reaches the API: the connection, authentication and transport."""
