"""Metadata for Airflow. Every Airflow process reads it when it starts, so this module imports nothing."""

from __future__ import annotations

from typing import Any

INTEGRATION = "Messente Omnimessage"
PACKAGE = "airflow_provider_omnimessage"

#: The field for each extra in the connection form of Airflow 3.2 and newer. The hook returns the same for older ones.
CONN_FIELDS: dict[str, dict[str, Any]] = {
    "sender": {
        "label": "Sender",
        "description": "Used when a message sets no sender: at most 11 characters, or a number, of your account.",
        "schema": {"type": ["string", "null"]},
    },
    "timezone": {
        "label": "Time zone",
        "description": "Used when time_to_send has no offset: an IANA name such as Europe/Tallinn. Empty: UTC.",
        "schema": {"type": ["string", "null"]},
    },
    "window": {
        "label": "Send window",
        "description": (
            "When messages may be sent that set no window of their own, such as "
            "09:00-20:00; days=mon-fri; timezone=recipient; holidays=EE. Alerts ignore it. Empty: at any time."
        ),
        "schema": {"type": ["string", "null"]},
    },
    "priority": {
        "label": "Priority",
        "description": "Used when a message sets no priority. Empty: regular.",
        "schema": {"type": ["string", "null"], "enum": ["low", "regular", "high"]},
    },
    "text_store": {
        "label": "Text store",
        "description": "How Messente stores the text: as it is, hashed, or not at all. Empty: the account's default.",
        "schema": {"type": ["string", "null"], "enum": ["plaintext", "sha256", "nostore"]},
    },
    "dlr_url": {
        "label": "Delivery report URL",
        "description": "Where Messente posts delivery reports (dlr_url).",
        "schema": {"type": ["string", "null"]},
    },
    "dashboard_url": {
        "label": "Dashboard URL",
        "description": ("Target of the link 'Message' of a task. {omnimessage_id} is replaced by the message's id."),
        "schema": {"type": ["string", "null"]},
    },
    "push_url": {
        "label": "Receiver URL, public",
        "description": "Base URL under which Messente reaches the receiver. Delivery reports are then posted there.",
        "schema": {"type": ["string", "null"]},
    },
    "receiver_url": {
        "label": "Receiver URL, internal",
        "description": "Base URL under which triggers and tasks reach the receiver. Empty: the public one.",
        "schema": {"type": ["string", "null"]},
    },
    "reply_secret": {
        "label": "Reply secret",
        "description": "Signs replies: the shared secret of the number that receives them.",
        "schema": {"type": ["string", "null"], "format": "password"},
    },
    "timeout": {
        "label": "Timeout (seconds)",
        "description": "How long to wait for a response. Empty: 30.",
        "schema": {"type": ["number", "null"], "minimum": 0, "maximum": 3600},
    },
    "deadline": {
        "label": "Deadline (seconds)",
        "description": "How long a request may take, including its repeats. Empty: 120.",
        "schema": {"type": ["number", "null"], "minimum": 0, "maximum": 3600},
    },
    "rate_limit": {
        "label": "Rate limit (requests per second)",
        "description": "Each process stays below this rate. Empty: 150, which is Messente's limit for one IP address.",
        "schema": {"type": ["number", "null"], "minimum": 0, "maximum": 100000},
    },
}

#: Section of Airflow's configuration.
CONFIG: dict[str, dict[str, Any]] = {
    "omnimessage": {
        "description": "Settings of the Omnimessage provider.",
        "options": {
            "receiver": {
                "description": (
                    "Whether the API server receives delivery reports and replies from Messente, under "
                    "``/omnimessage``. Requires Airflow 3."
                ),
                "version_added": "0.2.0",
                "type": "boolean",
                "example": None,
                "default": "False",
            },
            "receiver_database": {
                "description": (
                    "SQLAlchemy URL of the database in which the receiver keeps its events. Empty: Airflow's metadata "
                    "database."
                ),
                "version_added": "0.2.0",
                "type": "string",
                "sensitive": True,
                "example": "postgresql+psycopg2://omnimessage:password@localhost/omnimessage",
                "default": None,
            },
            "receiver_retention_days": {
                "description": "Number of days for which the receiver keeps events.",
                "version_added": "0.2.0",
                "type": "float",
                "example": None,
                "default": "7",
            },
        },
    }
}

#: The standard fields. The port stays visible: the Test button of Airflow 3.3 does not work without one.
UI_FIELD_BEHAVIOUR: dict[str, Any] = {
    "hidden-fields": ["schema", "extra"],
    "relabeling": {"login": "API username", "password": "API password", "host": "Base URL"},
    "placeholders": {
        "host": "https://api.messente.com/v1",
        "port": "443: only for the Test button of Airflow 3.3",
    },
}


def get_provider_info() -> dict[str, Any]:
    """
    Return the provider's metadata, as ``airflow/provider_info.schema.json`` requires.

    Airflow 3.2 and newer show the connection form from ``conn-fields`` and ``ui-field-behaviour``, without importing
    the hook; earlier versions ignore them and call the hook's methods.
    """
    return {
        "package-name": "airflow-provider-omnimessage",
        "name": INTEGRATION,
        "description": (
            "Schedule, cancel and follow SMS, Viber, WhatsApp and RCS messages through "
            "`Messente's Omnichannel API <https://messente.com/documentation/omnichannel-api>`__."
        ),
        "integrations": [
            {
                "integration-name": INTEGRATION,
                "external-doc-url": "https://messente.com/documentation/omnichannel-api",
                "tags": ["service", "notification"],
            }
        ],
        "operators": [
            {
                "integration-name": INTEGRATION,
                "python-modules": [f"{PACKAGE}.operators.omnimessage", f"{PACKAGE}.operators.bulk"],
            },
            {
                "integration-name": INTEGRATION,
                "python-modules": [f"{PACKAGE}.alerts.deadman", f"{PACKAGE}.alerts.heartbeat"],
            },
        ],
        "sensors": [
            {"integration-name": INTEGRATION, "python-modules": [f"{PACKAGE}.sensors.omnimessage"]},
        ],
        "triggers": [
            {
                "integration-name": INTEGRATION,
                "python-modules": [f"{PACKAGE}.triggers.omnimessage", f"{PACKAGE}.triggers.events"],
            },
        ],
        "notifications": [f"{PACKAGE}.notifications.omnimessage.OmnimessageNotifier"],
        "hooks": [
            {"integration-name": INTEGRATION, "python-modules": [f"{PACKAGE}.hooks.omnimessage"]},
        ],
        "connection-types": [
            {
                "connection-type": "omnimessage",
                "hook-class-name": f"{PACKAGE}.hooks.omnimessage.OmnimessageHook",
                "hook-name": INTEGRATION,
                "conn-fields": CONN_FIELDS,
                "ui-field-behaviour": UI_FIELD_BEHAVIOUR,
            }
        ],
        "extra-links": [f"{PACKAGE}.links.OmnimessageLink"],
        "cli": [f"{PACKAGE}.cli.commands.get_commands"],
        "config": CONFIG,
        # Airflow 3.2 and newer; elsewhere the receiver makes its tables when it starts
        "db-managers": [f"{PACKAGE}.receiver.db_manager.OmnimessageDBManager"],
    }
