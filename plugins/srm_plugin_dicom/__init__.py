"""The DICOM storage plugin: a PACS behind the storage plugin interface."""
