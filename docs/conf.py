"""How Sphinx builds these pages: from Markdown and the package's docstrings, and from nothing that is not here."""

from __future__ import annotations

import os
import tempfile

# Airflow makes its home where it is imported, and the reference imports it: it gets one that nobody keeps.
os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp(prefix="omnimessage-docs-"))

from airflow_provider_omnimessage import __version__

project = "airflow-provider-omnimessage"
author = "its authors"
copyright = "its authors, Apache License 2.0"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
suppress_warnings: list[str] = []
nitpicky = False

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"
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
