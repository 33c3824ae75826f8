"""What Airflow discovers: the metadata, the connection form that it draws, and the commands that it offers."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_provider_omnimessage.hooks import form, settings
from airflow_provider_omnimessage.hooks.omnimessage import OmnimessageHook
from airflow_provider_omnimessage.provider_info import CONN_FIELDS, get_provider_info


def test_the_metadata_matches_the_schema_of_the_installed_airflow():
    import airflow
    from jsonschema import Draft7Validator

    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    assert [error.message for error in Draft7Validator(schema).iter_errors(get_provider_info())] == []
    unknown = set(get_provider_info()) - set(schema["properties"])
    assert unknown == set()


def test_reading_the_metadata_imports_nothing():
    lines = (
        "import sys; before = set(sys.modules)",
        "from airflow_provider_omnimessage.provider_info import get_provider_info; get_provider_info()",
        "print(sorted(name.split('.')[0] for name in set(sys.modules) - before))",
    )
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert set(json.loads(done.stdout.replace("'", '"'))) <= {
        "airflow_provider_omnimessage",
        "__future__",
        "typing",
    } | set(sys.stdlib_module_names)


@pytest.mark.parametrize("kind", ["operators", "hooks", "sensors", "triggers"])
def test_every_module_that_it_names_is_there(kind):
    for entry in get_provider_info().get(kind, []):
        for module in entry["python-modules"]:
            importlib.import_module(module)


def test_everything_else_that_it_names_is_there():
    info = get_provider_info()
    names = [*info.get("extra-links", []), *info.get("cli", []), *info.get("notifications", [])]
    names += [entry["hook-class-name"] for entry in info["connection-types"]]
    for name in names:
        module, _, member = name.rpartition(".")
        assert getattr(importlib.import_module(module), member)


def test_every_extra_has_a_field_of_its_own_with_label_and_help():
    assert set(CONN_FIELDS) == settings._NAMES
    for field in CONN_FIELDS.values():
        assert field["label"]
        assert field["description"].endswith(".")


def test_what_a_dropdown_offers_is_accepted():
    for name, field in CONN_FIELDS.items():
        for value in field["schema"].get("enum", []):
            problems = settings.Problems()
            settings._EXTRA[name](value, name, problems)
            assert not problems


def test_airflow_reads_the_form_from_the_metadata_and_leaves_the_hook_alone(recwarn):
    from airflow.providers_manager import ProvidersManager

    manager = ProvidersManager()
    assert manager.hooks["omnimessage"].hook_name == "Messente Omnimessage"
    widgets = manager.connection_form_widgets
    assert widgets["extra__omnimessage__priority"].field["schema"]["enum"] == ["low", "regular", "high"]
    behaviour = manager.field_behaviours["omnimessage"]
    assert behaviour["relabeling"]["login"] == "API username"
    assert behaviour["placeholders"]["host"] == settings.DEFAULT_BASE_URL
    assert not [warning for warning in recwarn if "omnimessage" in str(warning.message)]


def test_older_airflows_hide_and_name_the_same_fields():
    assert OmnimessageHook.get_ui_field_behaviour() == {
        "hidden_fields": ["schema", "extra", "port"],
        "relabeling": {"login": "API username", "password": "API password", "host": "Base URL"},
        "placeholders": {"host": settings.DEFAULT_BASE_URL},
    }


def test_without_flask_the_form_says_so_in_the_way_that_airflow_expects(monkeypatch):
    monkeypatch.setitem(sys.modules, "wtforms", None)
    with pytest.raises(ImportError) as caught:
        form.connection_form_widgets()
    assert caught.value.name == "wtforms"
