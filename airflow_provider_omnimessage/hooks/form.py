"""The connection form: its fields on Airflow 2.11 to 3.1, and its Test button on every version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from airflow_provider_omnimessage.provider_info import CONN_FIELDS, UI_FIELD_BEHAVIOUR

if TYPE_CHECKING:
    from airflow_provider_omnimessage.api.errors import ApiError
    from airflow_provider_omnimessage.hooks.repeating import Transport
    from airflow_provider_omnimessage.hooks.settings import Settings


class TestedHook(Protocol):
    """The part of the hook that the Test button needs."""

    omnimessage_conn_id: str

    @property
    def settings(self) -> Settings:
        """The connection's fields; raises ``InvalidInputError`` if they are invalid."""

    def get_conn(self) -> Transport:
        """Return the transport."""


# Messente responds with this, or 401, to an IP address that the account does not allow.
_FORBIDDEN = 403


def connection_form_widgets() -> dict[str, object]:
    """
    Return the WTForms fields of the provider's metadata. Airflow 3.2 and newer read the metadata themselves.

    :raises ImportError: if there is no WTForms, which Airflow 3.0 and 3.1 install with the FAB provider only. Airflow
        expects that, and shows its plain form.
    """
    from wtforms import BooleanField, IntegerField, PasswordField, StringField
    from wtforms.validators import Optional, any_of

    widgets: dict[str, object] = {}
    text_widgets = _text_widgets()
    for name, about in CONN_FIELDS.items():
        schema = about["schema"]
        validators = [Optional(), *([any_of(schema["enum"])] if "enum" in schema else [])]
        about_choices = f" One of {', '.join(schema['enum'])}." if "enum" in schema else ""
        kind = {"number": IntegerField, "integer": IntegerField, "boolean": BooleanField}.get(
            schema["type"][0], StringField
        )
        if schema.get("format") == "password":
            kind = PasswordField
        look = {} if kind in (BooleanField, PasswordField) else text_widgets
        widgets[name] = kind(
            about["label"], validators=validators, description=f"{about['description']}{about_choices}", **look
        )
    return widgets


def _text_widgets() -> dict[str, object]:
    try:
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget
    except ImportError:  # Airflow 3.0 and 3.1 without FAB: their form has its own look
        return {}
    return {"widget": BS3TextFieldWidget()}


def ui_field_behaviour() -> dict[str, object]:
    """Return how the form shows the standard fields, in the format of the hook's method. The port is hidden there."""
    return {
        "hidden_fields": [*UI_FIELD_BEHAVIOUR["hidden-fields"], "port"],
        "relabeling": UI_FIELD_BEHAVIOUR["relabeling"],
        "placeholders": {"host": UI_FIELD_BEHAVIOUR["placeholders"]["host"]},
    }


def check_connection(hook: TestedHook) -> tuple[bool, str]:
    """
    Request the report of a message that does not exist, and return what the response shows.

    :return: whether the connection works, and what was reached, or what is wrong and what to do.
    """
    from airflow_provider_omnimessage.api import calls, responses
    from airflow_provider_omnimessage.api.errors import (
        ApiError,
        AuthenticationError,
        InvalidInputError,
        NotSentError,
        OmnimessageError,
        UntrustedError,
    )

    try:
        settings = hook.settings
        if settings.window is not None:
            settings.window.load_holidays()
    except InvalidInputError as error:
        # the form tests under an id that Airflow made up, which would only confuse
        made_up = f"connection '{hook.omnimessage_conn_id}', "
        return False, "; ".join(f"{item.field.removeprefix(made_up)}: {item.reason}" for item in error.problems)
    try:
        hook.get_conn().make(calls.credentials_check())
    except AuthenticationError as error:
        return False, _invalid(error, settings.base_url, settings.username)
    except UntrustedError as error:
        return False, f"Not trusted: {error}"
    except NotSentError as error:
        return (
            False,
            f"No route: {error}. Check the base URL, DNS, firewall and proxy of the machine that runs this test",
        )
    except OmnimessageError as error:
        if isinstance(error, ApiError) and responses.is_messentes_not_found(error):
            return True, f"Reached {settings.base_url}, which accepts the API username '{settings.username}'."
        if getattr(error, "status_code", None) == 404:
            return (
                False,
                f"Not Messente: {settings.base_url} responds, but not as Messente does (404 without its error code "
                "101). Check the base URL",
            )
        return False, str(error)
    return (
        False,
        f"Not Messente: {settings.base_url} responds, but not as Messente does: it returns a report of a message that "
        "does not exist. Check the base URL",
    )


def _invalid(error: ApiError, base_url: str, username: str) -> str:
    if error.status_code == _FORBIDDEN:
        return (
            f"Rejected address: {base_url} forbids this call (403). Check in Messente's dashboard which IP addresses "
            f"the account allows, and whether the API username '{username}' is active"
        )
    return (
        f"Wrong password: {base_url} rejects the API username '{username}' with this API password (401). Check both in "
        "Messente's dashboard, API settings; if they are right, check which IP addresses the account allows"
    )
