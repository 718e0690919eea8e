"""srm-dicom: an SRM v2.2 storage element over a hospital's PACS."""

__version__ = "0.1.0"
