"""The one table from the error tree to the status of a C-STORE response."""

from __future__ import annotations

from srm_dicom import errors
from srm_plugin_dicom.deidentify.reasons import Reason
from srm_plugin_dicom.dimse import Status

STORE_STATUS: dict[type[errors.MdmError], Status] = {
    errors.NotAuthenticated: Status.NOT_AUTHORISED,
    errors.NotAuthorised: Status.NOT_AUTHORISED,
    errors.NotFound: Status.PROCESSING_FAILURE,
    errors.AlreadyExists: Status.PROCESSING_FAILURE,
    errors.NotADirectory: Status.PROCESSING_FAILURE,
    errors.IsADirectory: Status.PROCESSING_FAILURE,
    errors.NotEmpty: Status.PROCESSING_FAILURE,
    errors.Busy: Status.OUT_OF_RESOURCES,
    errors.InvalidRequest: Status.CANNOT_UNDERSTAND,
    errors.NotSupported: Status.CANNOT_UNDERSTAND,
    errors.RequestUnknown: Status.PROCESSING_FAILURE,
    errors.Aborted: Status.PROCESSING_FAILURE,
    errors.RequestExpired: Status.PROCESSING_FAILURE,
    errors.TooLarge: Status.OUT_OF_RESOURCES,
    errors.BudgetExhausted: Status.OUT_OF_RESOURCES,
    errors.SpaceExhausted: Status.OUT_OF_RESOURCES,
    errors.SpaceExpired: Status.OUT_OF_RESOURCES,
    errors.ConfigError: Status.PROCESSING_FAILURE,
    errors.NoSpace: Status.OUT_OF_RESOURCES,
    errors.Overloaded: Status.OUT_OF_RESOURCES,
    errors.IntegrityError: Status.PROCESSING_FAILURE,
    errors.CatalogueUnavailable: Status.OUT_OF_RESOURCES,
    errors.InternalError: Status.PROCESSING_FAILURE,
    errors.SourceUnavailable: Status.PROCESSING_FAILURE,
    errors.SourceSlow: Status.PROCESSING_FAILURE,
    errors.SourceRefused: Status.PROCESSING_FAILURE,
    errors.NotDelivered: Status.PROCESSING_FAILURE,
    # The object was taken and judged; that it does not leave the hospital is no failure of the PACS.
    errors.ObjectRefused: Status.SUCCESS,
    errors.KeyServerUnavailable: Status.PROCESSING_FAILURE,
    errors.KeyQuorumMissing: Status.PROCESSING_FAILURE,
    errors.KeyShareInvalid: Status.PROCESSING_FAILURE,
}
"""Every leaf of `errors.leaves()`; a source sends again later only after ``OUT_OF_RESOURCES``."""


def store_status(error: errors.MdmError) -> Status:
    """Return the status that says an error; a data set that is not what its command says has its own."""
    if isinstance(error, errors.ObjectRefused) and error.message == Reason.ANOTHER.value:
        return Status.ANOTHER_OBJECT
    return STORE_STATUS[type(error)]
