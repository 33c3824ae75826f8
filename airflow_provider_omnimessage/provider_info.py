"""What Airflow discovers: read at every start of every Airflow process, so this module imports nothing."""

from __future__ import annotations

from typing import Any

INTEGRATION = "Messente Omnimessage"
PACKAGE = "airflow_provider_omnimessage"


def get_provider_info() -> dict[str, Any]:
    """
    Return the provider's metadata, in the form that ``airflow/provider_info.schema.json`` asks for.

    ``conn-fields`` and ``ui-field-behaviour`` draw the connection form on Airflow 3.2 and newer without importing
    the hook; earlier versions ignore them and ask the hook's methods.
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
            {"integration-name": INTEGRATION, "python-modules": [f"{PACKAGE}.operators.omnimessage"]},
            {"integration-name": INTEGRATION, "python-modules": [f"{PACKAGE}.deadman", f"{PACKAGE}.heartbeat"]},
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
            }
        ],
    }
