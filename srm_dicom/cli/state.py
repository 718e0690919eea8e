"""``srm-dicom status``: what waits and is under way, what scratch holds, and what sources bear when."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from srm_dicom.broker.stagersettings import StagerSettings
from srm_dicom.cli.exits import reported
from srm_dicom.cli.options import config_option
from srm_dicom.daemon.common import ADMIN, Common
from srm_dicom.daemon.inner import load_usable
from srm_dicom.errors import MdmError
from srm_dicom.plugin.api import FileRef, Limits, Source
from srm_dicom.plugin.host import PluginHost

_DEFAULTS = StagerSettings("")
_NOT_TAKEN = "a stager that runs goes on with the settings that it has"


@click.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@reported
def status(config: Path, as_json: bool) -> None:
    """Show how many files of requests are in each state, what scratch holds and what sources bear when."""
    common = Common(config, ADMIN)
    states = sorted((state.value, count) for state, count in common.stores.requests.counts().items())
    scratch = common.config.scratch
    held = {
        "bytes": common.stores.staged.used_bytes(common.node),
        "high_bytes": scratch.high_bytes,
        "low_bytes": scratch.low_bytes,
    }
    hosts: Mapping[str, PluginHost] = {}
    unusable: Mapping[str, MdmError] = {}
    if common.config.inner is not None:
        hosts, unusable = load_usable(common)
    sources = list(_sources(common, hosts))
    if as_json:
        told = {
            "files": dict(states),
            "scratch": held,
            "sources": list(map(asdict, sources)),
            "unusable": {plugin: error.message for plugin, error in unusable.items()},
        }
        click.echo(json.dumps(told))
        return
    for state, count in states:
        click.echo(f"{state:12} {count}")
    click.echo(f"{'scratch':12} {held['bytes']} bytes of {held['high_bytes']}")
    for source in sources:
        for line in source.lines():
            click.echo(line)
    for plugin, error in unusable.items():
        click.echo(f"plugins.d/{plugin}.toml cannot be used, {_NOT_TAKEN}: {error.message}")


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """What a source bears now and when, and what stagers have in hand for it, waiting or under way.

    Attributes:
        first_object_s: None where the plugin has no such bound.
    """

    name: str
    max_visits: int
    files_per_s: float
    note: str
    files_in_hand: int
    first_object_s: float | None
    first_pause_s: float
    longest_pause_s: float
    kept_visits: int
    user_files: int
    schedule: tuple[Limits, ...]

    @classmethod
    def of(cls, plugin: str, source: Source, files_in_hand: int) -> SourceStatus:
        """Return it with what a stager does where a source has nothing of its own."""
        first_s, longest_s, files = source.first_pause_s, source.longest_pause_s, source.user_files
        return cls(
            f"{plugin}:{source.name}",
            source.max_visits,
            source.files_per_s,
            source.note,
            files_in_hand,
            source.first_object_s,
            _DEFAULTS.first_pause_s if first_s is None else first_s,
            _DEFAULTS.longest_pause_s if longest_s is None else longest_s,
            source.kept_visits,
            _DEFAULTS.claim if files is None else files,
            source.schedule,
        )

    def lines(self) -> Iterator[str]:
        """Yield it for people."""
        note = f" ({self.note})" if self.note else ""
        bears = _bears(self.max_visits, self.files_per_s)
        yield f"{self.name}  {self.files_in_hand} files in hand; bears {bears}{note}"
        for limits in self.schedule:
            now = "  <- now" if limits.holds else ""
            yield f"  {limits.when or 'usually'}: {_bears(limits.max_visits, limits.files_per_s)}{now}"
        yield f"  one user: {self.user_files} files in hand; {_visits(self.kept_visits)} kept for others"
        first = "" if self.first_object_s is None else f"{self.first_object_s:g} s for the first file; "
        yield f"  patience: {first}pauses of {self.first_pause_s:g} s up to {self.longest_pause_s:g} s"


def _bears(max_visits: int, files_per_s: float) -> str:
    rate = f", {files_per_s:g} files/s" if files_per_s else ""
    return f"{_visits(max_visits)} at once{rate}"


def _visits(count: int) -> str:
    return f"{count} visit{'s' * (count != 1)}"


def _sources(common: Common, hosts: Mapping[str, PluginHost]) -> Iterator[SourceStatus]:
    """Yield the sources of plugins; only a plugin knows of which source a file is."""
    in_hand = common.stores.namespace.find_guids(common.stores.requests.in_hand(common.clock.now()))
    for plugin, host in hosts.items():
        files = [
            FileRef(guid, entry.plugin_ref, entry.release)
            for guid, entry in in_hand.items()
            if entry.plugin == plugin and entry.release is not None
        ]
        count: Counter[str] = Counter()
        for batch in host.plan(files):
            count[batch.source] += len(batch.files)
        for source in host.sources():
            yield SourceStatus.of(plugin, source, count[source.name])
