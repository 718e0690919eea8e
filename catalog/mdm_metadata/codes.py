"""The AMGA edge of the error tree: one code for each leaf."""

from __future__ import annotations

from collections.abc import Mapping

from srm_dicom import errors
from srm_dicom.wire.amga import Code

CODES: Mapping[type[errors.MdmError], Code] = {
    errors.NotAuthenticated: Code.PERMISSION_DENIED,
    errors.NotAuthorised: Code.PERMISSION_DENIED,
    errors.NotFound: Code.NO_SUCH_ENTRY,
    errors.AlreadyExists: Code.ENTRY_EXISTS,
    errors.NotADirectory: Code.NO_SUCH_ENTRY,
    errors.IsADirectory: Code.DIRECTORY_EXISTS,
    errors.NotEmpty: Code.NOT_EMPTY,
    errors.Busy: Code.UNAVAILABLE,
    errors.InvalidRequest: Code.ILLEGAL_QUERY,
    errors.NotSupported: Code.ILLEGAL_COMMAND,
    errors.RequestUnknown: Code.NO_SUCH_ENTRY,
    errors.Aborted: Code.UNAVAILABLE,
    errors.RequestExpired: Code.UNAVAILABLE,
    errors.TooLarge: Code.TOO_LARGE,
    errors.BudgetExhausted: Code.UNAVAILABLE,
    errors.SpaceExhausted: Code.UNAVAILABLE,
    errors.SpaceExpired: Code.UNAVAILABLE,
    errors.ConfigError: Code.INTERNAL,
    errors.NoSpace: Code.UNAVAILABLE,
    errors.Overloaded: Code.UNAVAILABLE,
    errors.IntegrityError: Code.INTERNAL,
    errors.CatalogueUnavailable: Code.UNAVAILABLE,
    errors.InternalError: Code.INTERNAL,
    errors.SourceUnavailable: Code.UNAVAILABLE,
    errors.SourceSlow: Code.UNAVAILABLE,
    errors.SourceRefused: Code.UNAVAILABLE,
    errors.NotDelivered: Code.UNAVAILABLE,
    errors.ObjectRefused: Code.PERMISSION_DENIED,
    errors.KeyServerUnavailable: Code.UNAVAILABLE,
    errors.KeyQuorumMissing: Code.UNAVAILABLE,
    errors.KeyShareInvalid: Code.INTERNAL,
}
