"""Errors of the AFD protocol; the name of a class is its error code."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

_MAX_FAULTS: Final = 10


class AfdError(Exception):
    """An error as the answer to a call.

    Attributes:
        code: Error code: boto3 raises `client.exceptions.<code>` if the service's model declares
            it, else `ClientError` with this code.
        message: Text for people. It may name resources, but holds no values of events, which may
            be personal data.
        status: HTTP status.
    """

    status = 400

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def code(self) -> str:
        """Name of the class, which is the error code of the protocol."""
        return type(self).__name__


class MissingAuthenticationTokenException(AfdError):
    """The call is not signed."""


class IncompleteSignatureException(AfdError):
    """The signature lacks a part, has a malformed one, or does not cover a required header."""


class UnrecognizedClientException(AfdError):
    """The access key is unknown."""


class InvalidSignatureException(AfdError):
    """The signature does not match the call, is too old, or is dated in the future."""


class AccessDeniedException(AfdError):
    """The access key's role does not allow the operation."""


class ThrottlingException(AfdError):
    """The access key is over its rate limit."""


class UnknownOperationException(AfdError):
    """The protocol does not have the operation."""


class SerializationException(AfdError):
    """The body is not JSON, or a value is of another type than declared."""


class ValidationException(AfdError):
    """A value is invalid, or Fraudstream has no equivalent for it."""


class ResourceNotFoundException(AfdError):
    """The resource does not exist."""


class ConflictException(AfdError):
    """The change conflicts with the current state."""


class InternalServerException(AfdError):
    """The service failed; clients retry by themselves."""

    status = 500


def invalid(error: ValidationError) -> ValidationException:
    """Convert a validation error of our contracts; the message holds no values of the request."""
    faults = [
        f"{'.'.join(str(part) for part in fault['loc']) or 'request'}: {fault['msg'].removeprefix('Value error, ')}"
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return ValidationException("; ".join(faults[:_MAX_FAULTS]))
