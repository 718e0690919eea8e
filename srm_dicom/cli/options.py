"""What several commands of an administrator share."""

from __future__ import annotations

from pathlib import Path

import click

DEFAULT_CONFIG = Path("/etc/srm-dicom/srm-dicom.toml")

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    envvar="SRM_DICOM_CONFIG",
    default=DEFAULT_CONFIG,
    show_default=True,
    help="The site's configuration.",
)
