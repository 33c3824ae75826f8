"""Opens the files that parameters name."""

from __future__ import annotations

from typing import TYPE_CHECKING, TextIO, cast

from airflow_provider_omnimessage._compat import object_storage_path

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath


def open_text(field: str, path: str | ObjectStoragePath, newline: str | None = None) -> TextIO:
    """
    Open a UTF-8 file to read it.

    :param field: the parameter that names it, for the error.
    :param path: a path or URL.
    :param newline: as of :func:`open`.
    :raises FileNotFoundError: if it does not exist. It may yet come, so that a task uses its retries.
    :raises OSError: if it cannot be read.
    """
    try:
        return cast("TextIO", object_storage_path(path).open("r", encoding="utf-8-sig", newline=newline))
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{field}: there is no file {path} here; check the path, and with several workers, use the URL of an "
            "object store"
        ) from None
