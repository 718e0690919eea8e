"""Sphinx configuration."""

project = "srm-dicom"
author = "the srm-dicom developers"
extensions = ["myst_parser"]
html_theme = "furo"
html_title = "srm-dicom"
exclude_patterns = ["_build", "*.py"]
myst_heading_anchors = 3
