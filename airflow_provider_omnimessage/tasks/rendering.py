"""How templates are rendered where numbers of phones are among them."""

from __future__ import annotations

from typing import Any


class PlainStrings:
    """
    Render templates only, and leave plain strings alone.

    A DAG with native objects would make a number of a plain ``"+37255555555"``, and lose its ``+``.
    """

    def render_template(self, content: Any, *args: Any, **kwargs: Any) -> Any:
        """Render, where there is something to render."""
        from airflow_provider_omnimessage.api.fields import is_deferred

        if isinstance(content, str) and not is_deferred(content):
            return content
        return super().render_template(content, *args, **kwargs)  # type: ignore[misc]
