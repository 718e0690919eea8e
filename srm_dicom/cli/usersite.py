"""What the commands of ``mdm`` share: the site that they speak to, and how they print."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import click

from srm_dicom.client.library import Client
from srm_dicom.client.site import SiteDescription
from srm_dicom.identity.credential import Credential

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@contextmanager
def connected() -> Iterator[Client]:
    """Open a client from the environment."""
    site = SiteDescription.from_environment(os.environ)
    with Client(site, Credential.from_environment(os.environ)) as client:
        yield client
