"""Settings of Sphinx, which builds these pages from Markdown and from the package's docstrings."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

# The reference imports Airflow, which creates its home when it is imported: use a temporary one.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="omnimessage-docs-"))

from docutils import nodes

from airflow_provider_omnimessage import __version__

project = "airflow-provider-omnimessage"
author = "airflow-provider-omnimessage contributors"
copyright = f"{author}, Apache License 2.0"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
suppress_warnings: list[str] = []
nitpicky = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 72
add_module_names = False

html_theme = "furo"
html_title = "airflow-provider-omnimessage"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "tango"
pygments_dark_style = "monokai"


PACKAGE = "airflow_provider_omnimessage"
IN_REFERENCE = {
    module
    for page in (Path(__file__).parent / "reference").glob("*.md")
    for module in re.findall(r"automodule:: (\S+)", page.read_text())
}

CALLED_BY_AIRFLOW = {
    "execute",
    "execute_complete",
    "get_connection_form_widgets",
    "get_ui_field_behaviour",
    "on_kill",
    "render_template",
    "render_template_fields",
    "resume_execution",
    "run",
    "serialize",
}
CALLED_BY_THIS_PACKAGE = {"MessagesToCancel", "drop_markers", "invalid", "marker_after", "wire_in"}


def skip(_app: Any, what: str, name: str, member: object, skipped: bool, _options: Any) -> bool | None:
    """Leave out the constants of a module, fields of tuples, and methods that only Airflow or this package calls."""
    is_constant = what == "module" and not (isinstance(member, type) or callable(member))
    # the parameters of the class say what the fields mean
    is_field_of_tuple = type(member).__name__ == "_tuplegetter"
    return True if is_constant or is_field_of_tuple or name in CALLED_BY_AIRFLOW | CALLED_BY_THIS_PACKAGE else None


def drop_internal_bases(_app: Any, _name: str, _class: type, _options: Any, bases: list[Any]) -> None:
    """Leave out base classes that are not in the reference, and that a class is a tuple."""
    bases[:] = [
        base
        for base in bases
        if base is not NamedTuple and (base.__module__ in IN_REFERENCE or not base.__module__.startswith(PACKAGE))
    ]


def drop_empty_bases(_app: Any, document: nodes.document) -> None:
    """Leave out the line on base classes if it says nothing."""
    for line in list(document.findall(nodes.paragraph)):
        if line.astext() in ("Bases:", "Bases: object"):
            line.parent.remove(line)


def setup(app: Any) -> None:
    """Connect the functions above."""
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-bases", drop_internal_bases)
    app.connect("doctree-read", drop_empty_bases)
