"""The verbs of conformance cases, by what they are about; see `srm_dicom.testing.conformance`."""
