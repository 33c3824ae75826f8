"""Types of the public parameters. For type checkers only: nothing imports this module when it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, Protocol, TypeAlias


class Deferred(Protocol):
    """A value that Airflow resolves when the task runs, such as the output of another task (an ``XComArg``)."""

    def iter_references(self) -> Iterable[object]:
        """Return the tasks whose outputs it refers to."""


class ClientModel(Protocol):
    """A model object of Messente's official client."""

    def to_dict(self) -> dict[str, object]:
        """Return its fields."""


Text: TypeAlias = "str | Deferred"
#: Digits are accepted, too: a template renders a number as text.
WholeNumber: TypeAlias = "int | str | Deferred"
Content: TypeAlias = "Mapping[str, object] | ClientModel | Deferred"
Message: TypeAlias = "Mapping[str, object] | ClientModel | Deferred"
Messages: TypeAlias = "Iterable[Message] | Deferred"

# ``str``, since a template renders any text; the values are checked before anything is sent
TextStore: TypeAlias = "Literal['plaintext', 'sha256', 'nostore'] | str"
Priority: TypeAlias = "Literal['low', 'regular', 'high'] | str"
AutoConvert: TypeAlias = "Literal['on', 'full', 'off'] | str"
