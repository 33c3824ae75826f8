"""Apache Airflow provider for Messente's Omnichannel API: schedule, cancel and follow messages from a DAG."""

__version__ = "0.2.0"
