"""``srm-dicom register`` and ``check``: a site's daily work."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from srm_dicom import telemetry
from srm_dicom.cli import checks
from srm_dicom.cli.exits import reported
from srm_dicom.cli.options import config_option
from srm_dicom.daemon.common import REGISTER, Common
from srm_dicom.daemon.coredump import never_dump
from srm_dicom.daemon.inner import make_registrar

console = Console()

_PATIENCE_S = 60.0
"""How long `register` waits for files that are not its own to finish."""

_LOOK_EVERY_S = 0.2


@click.command()
@config_option
@click.option("--plugin", required=True, help="A file of plugins.d, without .toml.")
@click.argument("selector", default="")
@reported
def register(config: Path, plugin: str, selector: str) -> None:
    """Register what a plugin finds under SELECTOR (the plugin's own language).

    With - in its place it is read from standard input: what identifies a patient is not to stand among the
    words of a command, where everybody on the machine can read it.
    """
    if selector == "-":
        selector = sys.stdin.read().strip()
    telemetry.configure("register", level=40)
    never_dump()
    registrar = make_registrar(Common(config, REGISTER))
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("looking", total=None)
        total = 0
        for total in registrar.discover(plugin, selector):
            progress.update(task, description=f"found {total} files")
        progress.update(task, description=f"registering {total} files")
        until_s = time.monotonic() + _PATIENCE_S
        while (busy := registrar.step()) or (registrar.pending() and time.monotonic() < until_s):
            if not busy:  # the running registrar has taken some, or a server has to be tried again
                time.sleep(_LOOK_EVERY_S)
    left = registrar.pending()
    click.echo(f"{total} found, {max(0, total - left)} registered, {left} waiting")
    if left:
        raise SystemExit(1)


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@reported
def check(config: Path, as_json: bool) -> None:
    """Check all that must be right before the doors open; exit code 1 if anything is not."""
    never_dump()
    failed = False
    for result in checks.run(config):
        failed |= not result.passed
        if as_json:
            click.echo(json.dumps(asdict(result)))
        else:
            mark = "[green]ok  [/]" if result.passed else "[red]FAIL[/]"
            console.print(f"{mark} {result.name}: {result.detail}", highlight=False, soft_wrap=True)
    if failed:
        raise SystemExit(1)
