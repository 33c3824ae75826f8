"""How templates are rendered if they hold phone numbers and texts: nothing is logged, and numbers stay numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from airflow_provider_omnimessage._compat import mask_secrets
from airflow_provider_omnimessage.api.fields import is_deferred, is_uncalled_task
from airflow_provider_omnimessage.api.masking import mask_numbers

if TYPE_CHECKING:
    from airflow.sdk import DAG, Context
    from jinja2 import Environment, Template


class TemplateRenderingError(RuntimeError):
    """A template that could not be rendered, named by its field. It holds neither the template nor what it read."""


class PrivateTemplates:
    """Render the template fields of an operator, a sensor or a notifier without logging a template.

    If rendering fails, Airflow logs the whole template: the phone number and the text.
    """

    def _do_render_template_fields(
        self,
        parent: object,
        template_fields: Iterable[str],
        context: Context,
        jinja_env: Environment,
        seen_oids: set[int],
    ) -> None:
        """Render in place of Airflow, which calls this for mapped tasks as well.

        :raises TemplateRenderingError: for the first field that cannot be rendered.
        """
        for field in template_fields:
            value = rendered = getattr(parent, field)
            if is_uncalled_task(value):
                raise TemplateRenderingError(f"{field}: is a task that was not called; pass its output")
            reason = ""
            try:
                if callable(value):
                    rendered = value(context=context, jinja_env=jinja_env)
                else:
                    rendered = self.render_template(value, context, jinja_env, seen_oids)  # type: ignore[attr-defined]
            except TemplateRenderingError:
                raise
            except Exception as error:
                reason = unrendered(error)
            if reason:
                # outside of the except block: the error itself, which Airflow would log as well, may quote the template
                raise TemplateRenderingError(f"{field}: {reason}")
            setattr(parent, field, rendered)


class PlainStrings(PrivateTemplates):
    """Render templates only, and keep texts as they are.

    With ``render_template_as_native_obj=True``, Airflow turns ``"+37255555555"`` into a number without its ``+``,
    ``"1, 2"`` into a tuple, takes the quotes off a quoted text, and turns what is undefined into an object that fails
    when it is used. Here, all of them are as they are without it.
    """

    def render_template(self, content: Any, *args: Any, **kwargs: Any) -> Any:
        """Render ``content`` unless it is a string without a template."""
        if isinstance(content, str) and not is_deferred(content):
            return content
        return super().render_template(content, *args, **kwargs)  # type: ignore[misc]

    def _render(self, template: Template, context: Context, dag: DAG | None = None) -> Any:
        import jinja2
        from jinja2.nativetypes import NativeEnvironment

        rendered = super()._render(template, context, dag=dag)  # type: ignore[misc]
        if isinstance(rendered, jinja2.Undefined):
            return str(rendered)  # raises, unless the DAG's template_undefined allows it
        if isinstance(rendered, str) and not isinstance(template.environment, NativeEnvironment):
            return rendered
        nodes = list(template.root_render_func(template.new_context(dict(context))))
        if len(nodes) == 1 and not isinstance(nodes[0], str):
            return rendered  # a value that never was a text
        text = "".join(map(str, nodes))
        is_structure = isinstance(rendered, (list, tuple, dict)) and text.lstrip().startswith(("[", "(", "{"))
        return rendered if is_structure else text


class AlertTemplates(PlainStrings):
    """Render the templates of an alert. A window that cannot be rendered is ignored: it must not cost the alert."""

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Context,
        jinja_env: Environment,
        seen_oids: set[int],
    ) -> None:
        fields = list(template_fields)
        if "window" in fields:
            # first, as an error in another field ends the rendering
            fields.remove("window")
            try:
                super()._do_render_template_fields(parent, ["window"], context, jinja_env, seen_oids)
            except TemplateRenderingError as error:
                parent.window = None
                self.log.warning("The window of this alert is ignored: %s", error)  # type: ignore[attr-defined]
        super()._do_render_template_fields(parent, fields, context, jinja_env, seen_oids)


def unrendered(error: Exception) -> str:
    """Return what is wrong with a template, without its text, and with numbers and secrets masked."""
    import jinja2

    name = type(error).__name__
    if isinstance(error, jinja2.TemplateError):
        message = error.message or ""  # str() of a syntax error quotes the line of the template
    elif isinstance(error, KeyError) or type(error).__module__.partition(".")[0] == "airflow":
        message = str(error)
    else:
        message = ""  # errors of functions quote what they were called with
    message = mask_numbers(mask_secrets(message))
    reason = f"{name}: {message}" if message else name
    return f"its template cannot be rendered ({reason}); correct it"
