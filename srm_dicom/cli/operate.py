"""``srm-dicom register``, ``check`` and ``status``: a site's daily work."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from srm_dicom import telemetry
from srm_dicom.cli import checks
from srm_dicom.cli.exits import reported
from srm_dicom.cli.options import config_option
from srm_dicom.daemon.common import ADMIN, Common
from srm_dicom.daemon.coredump import never_dump
from srm_dicom.daemon.inner import load_plugins, make_registrar
from srm_dicom.plugin.api import FileRef

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
    """Register what a plugin finds under SELECTOR (the plugin's own language)."""
    telemetry.configure("register", level=40)
    never_dump()
    registrar = make_registrar(Common(config, "register"))
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
    click.echo(f"{total} found, {total - left} registered, {left} waiting")
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


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@reported
def status(config: Path, as_json: bool) -> None:
    """Show how many files of requests are in each state, what scratch holds and what sources bear now."""
    common = Common(config, ADMIN)
    states = sorted((state.value, count) for state, count in common.stores.requests.counts().items())
    scratch = common.config.scratch
    held = {
        "bytes": common.stores.staged.used_bytes(common.node),
        "high_bytes": scratch.high_bytes,
        "low_bytes": scratch.low_bytes,
    }
    sources = list(_sources(common)) if common.config.inner is not None else []
    if as_json:
        click.echo(
            json.dumps({"files": dict(states), "scratch": held, "sources": list(map(asdict, sources))})
        )
        return
    for state, count in states:
        click.echo(f"{state:12} {count}")
    click.echo(f"{'scratch':12} {held['bytes']} bytes of {held['high_bytes']}")
    for source in sources:
        click.echo(f"{source.name}  {source.files_in_hand} files in hand; bears {source.words}")


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """What a source bears now, and what stagers have in hand for it: waiting for a visit, or under way."""

    name: str
    max_visits: int
    files_per_s: float
    note: str
    files_in_hand: int

    @property
    def words(self) -> str:
        """What it bears, for people."""
        rate = f", {self.files_per_s:g} files/s" if self.files_per_s else ""
        note = f" ({self.note})" if self.note else ""
        return f"{self.max_visits} visits at once{rate}{note}"


def _sources(common: Common) -> Iterator[SourceStatus]:
    """Yield the sources of all plugins; only a plugin knows of which source a file is."""
    in_hand = common.stores.namespace.find_guids(common.stores.requests.in_hand(common.clock.now()))
    for plugin, host in load_plugins(common).items():
        files = [
            FileRef(guid, entry.plugin_ref, entry.release)
            for guid, entry in in_hand.items()
            if entry.plugin == plugin and entry.release is not None
        ]
        count: Counter[str] = Counter()
        for batch in host.plan(files):
            count[batch.source] += len(batch.files)
        for source in host.sources():
            yield SourceStatus(
                f"{plugin}:{source.name}",
                source.max_visits,
                source.files_per_s,
                source.note,
                count[source.name],
            )
