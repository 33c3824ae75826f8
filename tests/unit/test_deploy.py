"""The deployment examples: their syntax, the variables that they use, and the names of Airflow's settings in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

DEPLOY = Path(__file__).parent.parent.parent / "deploy"
COMPOSE = DEPLOY / "docker-compose.yaml"
CELERYS_OWN = {
    ("celery", "broker_url"),
    ("celery", "result_backend"),
    ("celery_broker_transport_options", "visibility_timeout"),
}
"""Settings of the Celery provider, which is not installed for these tests."""


def settings_of_compose() -> Iterator[tuple[str, str]]:
    for service in yaml.safe_load(COMPOSE.read_text())["services"].values():
        for name in service.get("environment", {}):
            found = re.fullmatch(r"AIRFLOW__([A-Z_]+?)__([A-Z_]+)", name)
            if found:
                yield found[1].lower(), found[2].lower()


def settings_of_chart() -> Iterator[tuple[str, str]]:
    for section, options in yaml.safe_load((DEPLOY / "values.yaml").read_text())["config"].items():
        yield from ((section, option) for option in options)


def test_every_variable_of_the_compose_file_is_in_the_example_and_the_other_way_round():
    used = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text()))
    offered = set(re.findall(r"^(\w+)=", (DEPLOY / "env.example").read_text(), re.MULTILINE))
    assert used == offered


def test_a_missing_variable_stops_the_compose_file():
    assert set(re.findall(r"\$\{\w+(..)", COMPOSE.read_text())) == {":?"}


def test_every_setting_is_one_of_airflows():
    from airflow.configuration import conf

    known = {
        (section, option)
        for section, described in conf.configuration_description.items()
        for option in described["options"]
    }
    named = {*settings_of_compose(), *settings_of_chart()}
    assert len(named) > 10
    assert named - CELERYS_OWN - known == set()


def test_every_component_of_airflow_has_a_service_and_waits_for_the_database():
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    components = {name for name, service in services.items() if "airflow" in service["image"].lower()}
    assert components == {"migrate", "api-server", "scheduler", "dag-processor", "triggerer", "worker"}
    for name in components - {"migrate"}:
        assert set(services[name]["depends_on"]) == {"postgres", "redis", "migrate"}


def test_tasks_that_are_stopped_have_time_to_read_a_response():
    chart = yaml.safe_load((DEPLOY / "values.yaml").read_text())
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    assert min(chart[name]["terminationGracePeriodSeconds"] for name in ("workers", "triggerer")) > 30
    assert {services[name]["stop_grace_period"] for name in ("worker", "triggerer")} == {"60s"}
