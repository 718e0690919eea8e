"""What the commands of ``mdm`` share: the site that they speak to, and how they print."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from srm_dicom.cli.exits import exit_code
from srm_dicom.client.library import Client
from srm_dicom.client.site import SiteDescription
from srm_dicom.errors import MdmError
from srm_dicom.identity.credential import Credential

console = Console()
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@contextmanager
def connected() -> Iterator[Client]:
    """Open a client from the environment."""
    site = SiteDescription.from_environment(os.environ)
    with Client(site, Credential.from_environment(os.environ)) as client:
        yield client


@contextmanager
def bars(*, quiet: bool) -> Iterator[Progress]:
    """Show how far something long is, where somebody looks, and nothing of it in the end."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
    with Progress(
        *columns, console=console, disable=quiet or not console.is_terminal, transient=True
    ) as progress:
        yield progress


def outcome(error: MdmError | None) -> dict[str, str | int | None]:
    """Return what ``--json`` tells of how something ended."""
    return {"error": error.message if error else None, "exit_code": exit_code(error) if error else 0}
