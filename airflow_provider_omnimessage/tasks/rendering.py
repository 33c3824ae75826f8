"""How templates are rendered if their results may be phone numbers."""

from __future__ import annotations

from typing import Any

from airflow_provider_omnimessage.api.fields import is_deferred


class PlainStrings:
    """
    Render templates only, and keep texts that look like numbers.

    With ``render_template_as_native_obj=True``, Airflow turns ``"+37255555555"`` into a number, without its ``+``.
    """

    def render_template(self, content: Any, *args: Any, **kwargs: Any) -> Any:
        """Render ``content`` unless it is a string without a template."""
        if isinstance(content, str) and not is_deferred(content):
            return content
        return super().render_template(content, *args, **kwargs)  # type: ignore[misc]

    def _render(self, template: Any, context: Any, dag: Any = None) -> Any:
        rendered = super()._render(template, context, dag=dag)  # type: ignore[misc]
        if not isinstance(rendered, (int, float)) or isinstance(rendered, bool):
            return rendered
        nodes = list(template.root_render_func(template.new_context(dict(context))))
        is_text = len(nodes) != 1 or isinstance(nodes[0], str)
        return "".join(map(str, nodes)) if is_text else rendered
