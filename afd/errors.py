"""The errors of the protocol, by the names that its clients know them by."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

_MAX_FAULTS: Final = 10


class AfdError(Exception):
    """A call that is answered by an error.

    Attributes:
        code: What clients know it by: boto3 raises `client.exceptions.<code>` where the service's
            model declares it, else `ClientError` with this code.
        message: For the person who reads it. It holds no value of the request, which may be
            personal data.
        status: HTTP status.
    """

    status = 400

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def code(self) -> str:
        """The name of the class: each error is one class, named as the protocol names it."""
        return type(self).__name__


class MissingAuthenticationTokenException(AfdError):
    """The call is not signed."""


class IncompleteSignatureException(AfdError):
    """The signature lacks a part, or does not cover what it must."""


class UnrecognizedClientException(AfdError):
    """There is no such access key."""


class InvalidSignatureException(AfdError):
    """The signature is not that of the call, or too old, or of a time to come."""


class AccessDeniedException(AfdError):
    """The access key's role does not allow it."""


class ThrottlingException(AfdError):
    """The access key asks too often."""


class UnknownOperationException(AfdError):
    """The protocol has no such operation."""


class SerializationException(AfdError):
    """The body is not JSON, or a value is of another type than declared."""


class ValidationException(AfdError):
    """A value is not as it must be, or there is nothing of ours that it maps to."""


class ResourceNotFoundException(AfdError):
    """There is no such thing."""


class ConflictException(AfdError):
    """Something else stands against it."""


class InternalServerException(AfdError):
    """It failed on our side; clients try again by themselves."""

    status = 500


def invalid(error: ValidationError) -> ValidationException:
    """Describe what one of our own contracts has against a request; no value stands in it."""
    faults = [
        f"{'.'.join(str(part) for part in fault['loc']) or 'request'}: {fault['msg'].removeprefix('Value error, ')}"
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return ValidationException("; ".join(faults[:_MAX_FAULTS]))
