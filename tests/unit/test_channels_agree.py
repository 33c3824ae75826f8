"""The provider and the sandbox know the same fields of each channel, although neither imports the other."""

from __future__ import annotations

import ast
import inspect
from types import ModuleType

import pytest

from airflow_provider_omnimessage.api import channels, messages
from airflow_provider_omnimessage.api.fields import Problems
from airflow_provider_omnimessage.sandbox import channel_rules
from airflow_provider_omnimessage.sandbox.checks import Findings


def names_in(module: ModuleType) -> set[str]:
    """Return every string in a module that may be the name of a field."""
    constants = [node for node in ast.walk(ast.parse(inspect.getsource(module))) if isinstance(node, ast.Constant)]
    return {node.value for node in constants if isinstance(node.value, str) and node.value.isidentifier()}


NAMES = sorted(names_in(channels) | names_in(channel_rules) | {"telegram", "nonsense"})


def known_to_the_provider(channel: str, name: str) -> bool:
    problems = Problems()
    channels.check_message({"channel": channel, name: object()}, channel, problems)
    return not any(problem.field == f"{channel}.{name}" and "no such field" in problem.reason for problem in problems)


def known_to_the_sandbox(channel: str, name: str) -> bool:
    findings = Findings()
    channel_rules.CHANNELS[channel]({"channel": channel, name: object()}, f"payload[{channel}]", findings)
    return f"{channel}.{name}" not in findings.unknown_fields


@pytest.mark.parametrize("channel", sorted(channel_rules.CHANNELS))
def test_both_know_the_same_fields(channel):
    provider = {name for name in NAMES if known_to_the_provider(channel, name)}
    sandbox = {name for name in NAMES if known_to_the_sandbox(channel, name)}
    assert provider == sandbox
    assert {"sender", "ttl", "validity"} < provider < set(NAMES)


@pytest.mark.parametrize("channel", sorted(channel_rules.CHANNELS))
def test_a_builder_has_a_parameter_for_each_field(channel):
    parameters = set(inspect.signature(getattr(messages, channel)).parameters)
    assert parameters | {"channel"} == {name for name in NAMES if known_to_the_provider(channel, name)}
