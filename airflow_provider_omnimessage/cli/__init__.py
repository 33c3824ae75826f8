"""The command line: ``airflow omnimessage`` and ``python -m airflow_provider_omnimessage``, the same commands."""
