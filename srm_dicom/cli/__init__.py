"""The commands: `srm-dicom` for administrators, `mdm` for users."""
