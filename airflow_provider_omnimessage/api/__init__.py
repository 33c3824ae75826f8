"""Messente's Omnichannel API, without Airflow: what is sent, when, how each call is made and what its answer means."""
