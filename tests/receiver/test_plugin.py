from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from full_size import first, full_size

HEAVY = ("fastapi", "starlette", "uvicorn", "sqlalchemy", "alembic", "aiohttp")

#: What the package imports at the plugin's module level, and when Airflow reads all that a plugin has.
IMPORTED_BY_THE_PLUGIN = f"""
import sys
import airflow.plugins_manager
import airflow.sdk.plugins_manager
before = set(sys.modules)
for name in {HEAVY}:
    for module in [module for module in before if module == name or module.startswith(name + ".")]:
        del sys.modules[module]  # Airflow's settings import some of them: what the plugin would import must show
import pytest
from airflow_provider_omnimessage.receiver.plugin import OmnimessagePlugin
plugin = OmnimessagePlugin()
print(plugin.fastapi_apps)
print([name for name in {HEAVY} if name in sys.modules])
"""

#: What each public module imports that those before it have not. One process, since importing Airflow takes seconds.
IMPORTED_BY_PUBLIC_MODULES = """
import importlib, sys
from airflow.sdk import BaseHook, BaseOperator
found = []
for name in (
    "provider_info", "hooks.omnimessage", "alerts", "operators.omnimessage", "operators.bulk",
    "sensors.omnimessage", "notifications.omnimessage", "receiver",
):
    before = set(sys.modules)
    importlib.import_module(f"airflow_provider_omnimessage.{name}")
    found += [
        (name, module)
        for module in set(sys.modules) - before
        if module.split(".")[0] in ("fastapi", "sqlalchemy", "alembic", "uvicorn")
        or module.startswith("airflow_provider_omnimessage.receiver.")
    ]
print(sorted(found))
"""

#: What triggers import that those of Airflow have not.
IMPORTED_BY_TRIGGERS = """
import sys, airflow.sdk, airflow.triggers.base
before = set(sys.modules)
import airflow_provider_omnimessage.triggers.events, airflow_provider_omnimessage.triggers.omnimessage
new = {module.split(".")[0] for module in set(sys.modules) - before}
print(sorted(new & {"fastapi", "sqlalchemy", "alembic", "uvicorn"}))
"""

MOUNTED = """
from airflow_provider_omnimessage.receiver.plugin import OmnimessagePlugin
from airflow import plugins_manager
(app,) = [app for app in plugins_manager.get_fastapi_plugins()[0] if app["url_prefix"] == "/omnimessage"]
print(type(app["app"]).__name__)
"""


def run(folder: Path, code: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "AIRFLOW_HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@full_size
def test_with_the_receiver_off_nothing_is_mounted_and_nothing_imported(tmp_path: Path) -> None:
    assert run(tmp_path, IMPORTED_BY_THE_PLUGIN)[-2:] == ["[]", "[]"]


@full_size
def test_no_public_module_imports_fastapi_or_the_receivers_database(tmp_path: Path) -> None:
    assert run(tmp_path, IMPORTED_BY_PUBLIC_MODULES)[-1] == "[]"


@full_size
def test_no_trigger_imports_what_only_the_receiver_needs(tmp_path: Path) -> None:
    assert run(tmp_path, IMPORTED_BY_TRIGGERS)[-1] == "[]"


@full_size
def test_with_the_receiver_on_the_application_is_mounted(tmp_path: Path) -> None:
    assert run(tmp_path, MOUNTED, AIRFLOW__OMNIMESSAGE__RECEIVER="True")[-1] == "FastAPI"


#: What Airflow's API server does with the plugin, and `airflow db migrate` with the tables.
MISCONFIGURED = """
from airflow_provider_omnimessage.receiver.plugin import OmnimessagePlugin
from airflow import plugins_manager
print([app["url_prefix"] for app in plugins_manager.get_fastapi_plugins()[0]])
try:
    from airflow_provider_omnimessage.receiver.db_manager import _uses_airflow_database
except ImportError:  # Airflow 3.1 and older
    pass
else:
    _uses_airflow_database()
"""


@pytest.mark.parametrize(
    ("option", "value", "error"),
    first(
        1,
        [
            ("RECEIVER_RETENTION_DAYS", "7d", "[omnimessage] receiver_retention_days: is not a positive number; use a"),
            ("RECEIVER_RETENTION_DAYS", "nan", "[omnimessage] receiver_retention_days: is not a positive number"),
            ("RECEIVER", "enabled", "[omnimessage] receiver: is neither true nor false; use True or False"),
        ],
    ),
)
def test_a_wrong_option_leaves_the_api_server_without_the_receiver_and_is_named(
    tmp_path: Path, option: str, value: str, error: str
) -> None:
    environment = {"AIRFLOW__OMNIMESSAGE__RECEIVER": "True", f"AIRFLOW__OMNIMESSAGE__{option}": value}
    output = run(tmp_path, MISCONFIGURED, **environment)
    assert "[]" in output
    assert error in " ".join(output)
