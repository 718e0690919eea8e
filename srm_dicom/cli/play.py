"""``srm-dicom demo``: the whole story on this machine."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from srm_dicom.cli.exits import reported
from srm_dicom.demo.story import play


@click.command()
@click.argument("directory", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option("--keep", is_flag=True, help="Go on serving afterwards, for gfal-copy in the next terminal.")
@reported
def demo(directory: Path | None, keep: bool) -> None:
    """Play the whole story on a throw-away site on this machine."""
    play(directory, keep=keep, console=Console())
