"""
Every exception of the package, as one tree.

::

    OmnimessageError
    ├── InvalidInputError          rejected here; nothing was sent (also a ValueError)
    │   ├── PastTimeToSendError    time_to_send is in the past
    │   └── UnknownZoneError       the time zone of a recipient is unknown
    ├── NoResponseError            no response that can be read
    │   ├── NotSentError           the request surely did not reach Messente
    │   │   ├── UntrustedError     the server's certificate is not trusted
    │   │   └── DeadlineExceededError  no time was left for the request, so it was not made
    │   └── LostResponseError      the request may have been processed
    ├── NotCancelledError          the message may still be scheduled
    └── ApiError                   Messente responded with an error
        ├── AuthenticationError    401, 403
        ├── NotFoundError          404
        ├── RejectedError          400 and other 4xx
        ├── RateLimitedError       429
        ├── ServerError            5xx
        └── UnexpectedResponseError  a redirect, or a success that cannot be read
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from airflow_provider_omnimessage.api.masking import mask_numbers


class OmnimessageError(Exception):
    """
    Base of all errors of this package.

    :param message: what happened; phone numbers in it are masked.
    :cvar maybe_processed: whether Messente may have processed the request. Only if this is false, a message can be
        sent again without the risk of a second one.
    :cvar may_pass: whether the same call may succeed later without any change here.
    """

    maybe_processed = False
    may_pass = False

    def __init__(self, message: str = "") -> None:
        super().__init__(mask_numbers(message))


class Problem(NamedTuple):
    """
    One thing that is wrong with an input.

    :param field: its path, such as ``messages[0].ttl``.
    :param reason: what is wrong and what would be accepted. Never a message's text or a whole phone number.
    """

    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


class InvalidInputError(OmnimessageError, ValueError):
    """
    The input cannot be sent. Nothing was sent.

    :param problems: everything that is wrong with it, in the order of the fields.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(map(str, self.problems)))

    @classmethod
    def of(cls, field: str, reason: str) -> InvalidInputError:
        """
        Return the error for a single problem.

        :param field: the path of the field.
        :param reason: what is wrong and what would be accepted.
        """
        return cls([Problem(field, reason)])

    def __reduce__(self) -> tuple[type[InvalidInputError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class PastTimeToSendError(InvalidInputError):
    """``time_to_send`` is in the past, and ``on_past`` does not allow that."""


class UnknownZoneError(InvalidInputError):
    """The time zone of a recipient's number is unknown, so it is unknown when the message may be sent."""


class NoResponseError(OmnimessageError):
    """There is no response that can be read."""

    may_pass = True


class NotSentError(NoResponseError):
    """The request surely did not reach Messente: name not resolved, no route, connection refused, TLS failed."""

    @classmethod
    def no_connection(cls, call: str, base_url: str, reason: str) -> NotSentError:
        """
        Return the error for a request that was not made.

        :param call: the name of the call.
        :param reason: why there was no connection.
        """
        return cls(f"{call}: could not reach {base_url}, nothing was sent: {reason}")


class UntrustedError(NotSentError):
    """The server's certificate is not trusted. Repeating the call does not change that."""

    may_pass = False

    @classmethod
    def of(cls, call: str, base_url: str, reason: str) -> UntrustedError:
        """
        Return the error for a request that was not made.

        :param call: the name of the call.
        :param reason: what is wrong with the certificate.
        """
        return cls(
            f"{call}: the certificate of {base_url} is not trusted, nothing was sent: {reason}. Check the connection's "
            "host; if the certificate is right, set REQUESTS_CA_BUNDLE to the file of its authority"
        )


class DeadlineExceededError(NotSentError):
    """No time was left for the request, so it was not made."""

    @classmethod
    def of(cls, call: str) -> DeadlineExceededError:
        """Return the error for a call, by its name."""
        return cls(f"{call}: no time is left for this request, nothing was sent; allow more time, or try again later")


class LostResponseError(NoResponseError):
    """The request was sent, but no complete response came back: it may have been processed."""

    maybe_processed = True

    @classmethod
    def of(cls, call: str, base_url: str, reason: str) -> LostResponseError:
        """
        Return the error for a request without a complete response.

        :param call: the name of the call.
        :param reason: what ended the wait.
        """
        return cls(f"{call}: no complete response from {base_url}: {reason}")


class NotCancelledError(OmnimessageError):
    """Messente did not cancel a message, and does not show that it was sent: it may still be scheduled."""

    maybe_processed = True
    may_pass = True

    @classmethod
    def of(cls, omnimessage_id: str, report: str) -> NotCancelledError:
        """
        Return the error for a message.

        :param omnimessage_id: the message.
        :param report: what its delivery report shows.
        """
        return cls(
            f"cancel: {omnimessage_id} may still be scheduled: Messente does not cancel it, but its delivery report "
            f"does not show that it was sent ({report}); cancel it again"
        )


class ApiError(OmnimessageError):
    """
    Messente responded with an error.

    :param status_code: the HTTP status.
    :param codes: Messente's own error codes, such as ``"105"`` for invalid data, if the response has any.
    :param retry_after: seconds to wait that a 429 or 5xx asks for; ``None`` if it does not.
    """

    def __init__(
        self, message: str, *, status_code: int, codes: Sequence[str] = (), retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status_code = status_code
        self.codes = tuple(codes)
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


class AuthenticationError(ApiError):
    """401 or 403: the API username or password is wrong, or the account does not allow this IP address."""


class NotFoundError(ApiError):
    """404: the message is unknown, of another account, or, for a cancel, already sent."""


class RejectedError(ApiError):
    """400 or another 4xx: Messente rejects the request."""


class RateLimitedError(ApiError):
    """429: too many requests. The request was not processed."""

    may_pass = True


class ServerError(ApiError):
    """5xx, from Messente or a gateway in front of it: the request may have been processed."""

    maybe_processed = True
    may_pass = True


class UnexpectedResponseError(ApiError):
    """
    A response that is not Messente's: a redirect, which is never followed, or a success that cannot be read.

    :param status_code: the HTTP status.
    :param codes: Messente's own error codes, if the response has any.
    :param maybe_processed: false only for a redirect and a 404 of another server: neither processes a request.
    """

    def __init__(
        self, message: str, *, status_code: int, codes: Sequence[str] = (), maybe_processed: bool = True
    ) -> None:
        super().__init__(message, status_code=status_code, codes=codes)
        self.maybe_processed = maybe_processed


def _rebuild(kind: type[ApiError], args: tuple[object, ...], state: dict[str, object]) -> ApiError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error
