"""``srm-dicom serve``: run roles. Loads the code of the role that is run and of no other."""

from __future__ import annotations

from pathlib import Path

import click

from srm_dicom.cli.exits import reported
from srm_dicom.cli.options import config_option
from srm_dicom.daemon import processes


@click.command()
@config_option
@click.option(
    "--role",
    type=click.Choice(sorted([*processes.ROLES, "all"])),
    default="all",
    show_default=True,
    help="What to run.",
)
@reported
def serve(config: Path, role: str) -> None:
    """Run one role, or all of them as children, until told to stop."""
    if role == "all":
        processes.serve_all(config)
    else:
        processes.serve(config, role)
