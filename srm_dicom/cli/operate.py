"""``srm-dicom register``, ``check`` and ``status``: a site's daily work."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from srm_dicom import telemetry
from srm_dicom.cli import checks
from srm_dicom.cli.exits import reported
from srm_dicom.cli.options import config_option
from srm_dicom.daemon.common import ADMIN, Common
from srm_dicom.daemon.inner import load_plugins, make_registrar
from srm_dicom.plugin.api import Source

console = Console()


@click.command()
@config_option
@click.option("--plugin", required=True, help="A file of plugins.d, without .toml.")
@click.argument("selector", default="")
@reported
def register(config: Path, plugin: str, selector: str) -> None:
    """Register what a plugin finds under SELECTOR (the plugin's own language)."""
    telemetry.configure("register", level=40)
    registrar = make_registrar(Common(config, "register"))
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("looking", total=None)
        total = 0
        for total in registrar.discover(plugin, selector):
            progress.update(task, description=f"found {total} files")
        progress.update(task, description=f"registering {total} files")
        while registrar.step():
            pass
    left = registrar.pending()
    click.echo(f"{total} found, {total - left} registered, {left} waiting")
    if left:
        raise SystemExit(1)


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@reported
def check(config: Path, as_json: bool) -> None:
    """Check all that must be right before the doors open; exit code 1 if anything is not."""
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


@click.command()
@config_option
@reported
def status(config: Path) -> None:
    """Show how many files of requests are in each state, what scratch holds and what sources bear now."""
    common = Common(config, ADMIN)
    for state, count in sorted(common.stores.requests.counts().items(), key=lambda item: item[0].value):
        click.echo(f"{state.value:12} {count}")
    click.echo(f"{'scratch':12} {common.stores.staged.used_bytes(common.node)} bytes")
    if common.config.inner is not None:
        for plugin, host in load_plugins(common).items():
            for source in host.sources():
                click.echo(f"{plugin}:{source.name}  {_bears(source)}")


def _bears(source: Source) -> str:
    """Say what a source bears now."""
    rate = f", {source.files_per_s:g} files/s" if source.files_per_s else ""
    note = f" ({source.note})" if source.note else ""
    return f"{source.max_visits} visits at once{rate}{note}"
