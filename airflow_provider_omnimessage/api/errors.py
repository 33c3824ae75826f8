"""
Every exception the package raises, as one tree.

::

    OmnimessageError
    ├── InvalidInputError          refused here, before anything was sent (also a ValueError)
    │   ├── PastTimeToSendError    the moment has gone by
    │   └── UnknownZoneError       the time zone of a recipient is unknown
    ├── NoResponseError              no answer that can be read came back
    │   ├── NotSentError           the request surely did not reach Messente
    │   │   ├── UntrustedError     whoever answers there has no certificate that is trusted
    │   │   └── DeadlineExceededError  no time was left for the request, so it was not made
    │   └── LostResponseError        it may have been processed: nobody can tell
    ├── NotCancelledError          a cancel was not carried out, or not for certain
    └── ApiError                   Messente answered, and not with success
        ├── AuthenticationError    401, 403
        ├── NotFoundError          404
        ├── RejectedError           400 and other 4xx
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

    :param message: what happened, in words; phone numbers in it are masked.
    :cvar maybe_processed: whether Messente may have acted on the request all the same. Only where this is false can
        a message be sent again without the danger of a second one.
    :cvar may_pass: whether the same call may succeed later with nothing changed here.
    """

    maybe_processed = False
    may_pass = False

    def __init__(self, message: str = "") -> None:
        super().__init__(mask_numbers(message))


class Problem(NamedTuple):
    """
    One thing that is wrong with what was given.

    :param field: where it stands, as a path: ``messages[0].ttl``.
    :param reason: what was refused and what would be accepted. Never a message text or a full phone number.
    """

    field: str
    reason: str

    def __str__(self) -> str:
        return f"{self.field}: {self.reason}"


class InvalidInputError(OmnimessageError, ValueError):
    """
    What was given cannot be sent. Nothing was.

    :param problems: everything that is wrong with it, in the order of the fields.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(map(str, self.problems)))

    @classmethod
    def of(cls, field: str, reason: str) -> InvalidInputError:
        """
        Make the error for a single problem.

        :param field: the refused field.
        :param reason: what was refused and what would be accepted.
        """
        return cls([Problem(field, reason)])

    def __reduce__(self) -> tuple[type[InvalidInputError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


class PastTimeToSendError(InvalidInputError):
    """``time_to_send`` has gone by, and nobody said what to do then."""


class UnknownZoneError(InvalidInputError):
    """The time zone of a recipient's number is unknown, so it is unknown when the message may be sent."""


class NoResponseError(OmnimessageError):
    """No answer that can be read came back from the API."""

    may_pass = True


class NotSentError(NoResponseError):
    """The request surely did not reach Messente: no route, no name, connection refused, TLS refused."""

    @classmethod
    def no_connection(cls, call: str, base_url: str, reason: str) -> NotSentError:
        """
        Return the error for a request that was not made.

        :param call: the name of the call.
        :param base_url: the base URL of the API.
        :param reason: why there was no connection.
        """
        return cls(f"{call}: could not reach {base_url}, nothing was sent: {reason}")


class UntrustedError(NotSentError):
    """The certificate of whoever answers there is refused, which no repeat changes."""

    may_pass = False

    @classmethod
    def of(cls, call: str, base_url: str, reason: str) -> UntrustedError:
        """
        Make the error, with the way out.

        :param call: the name of the call that was not made.
        :param base_url: where it was to go.
        :param reason: what is wrong with the certificate.
        """
        return cls(
            f"{call}: the certificate of {base_url} is not trusted, nothing was sent: {reason}. Check the connection's "
            "host; where the certificate is right, name the bundle that vouches for it in REQUESTS_CA_BUNDLE"
        )


class DeadlineExceededError(NotSentError):
    """No time was left for the request, so it was not made."""

    @classmethod
    def of(cls, call: str) -> DeadlineExceededError:
        """
        Return the error for a call that was not made.

        :param call: the name of the call.
        """
        return cls(f"{call}: no time is left for this request, nothing was sent; allow more time, or try again later")


class LostResponseError(NoResponseError):
    """The request was sent, and its response did not come back: it may have been processed, or not."""

    maybe_processed = True

    @classmethod
    def of(cls, call: str, base_url: str, reason: str) -> LostResponseError:
        """
        Return the error for a request without a complete response.

        :param call: the name of the call.
        :param base_url: the base URL of the API.
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
    Messente answered, and not with success.

    :param message: what happened, in words.
    :param status_code: the HTTP status.
    :param codes: Messente's own error codes (``"105"``: invalid data), where the answer held any.
    :param retry_after: seconds to wait, as a 429 or 5xx asked; ``None`` where it did not say.
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
    """401 or 403: the API username or password is wrong, or this address may not call."""


class NotFoundError(ApiError):
    """404: no such message, not yours, or, for a cancel, already sent."""


class RejectedError(ApiError):
    """400 or another 4xx: Messente does not accept the request as it is."""


class RateLimitedError(ApiError):
    """429: too many requests. It was not processed."""

    may_pass = True


class ServerError(ApiError):
    """5xx, from Messente or a gateway before it: the request may have been processed."""

    maybe_processed = True
    may_pass = True


class UnexpectedResponseError(ApiError):
    """
    An answer that is not Messente's.

    A redirect is one, for redirects are never followed; so is a success that cannot be read. Then the request
    may have been processed.

    :param message: what happened, in words.
    :param status_code: the HTTP status.
    :param codes: Messente's own error codes, where the answer held any.
    :param maybe_processed: false only for a redirect, which no API processes.
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
