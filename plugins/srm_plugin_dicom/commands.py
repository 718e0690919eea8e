"""``srm-dicom dicom ...``: what an administrator can do with the plugin on the command line."""

from __future__ import annotations

import json
import secrets
import sys
import tomllib
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from srm_dicom.errors import ConfigError, NotSupported
from srm_dicom.rights.project import Release
from srm_plugin_dicom.deidentify import PROFILES, Context, PixelPolicy, current_version
from srm_plugin_dicom.deidentify.files import Outcome, deidentify_file, deidentify_series, pairs
from srm_plugin_dicom.deidentify.series import SeriesNeeded
from srm_plugin_dicom.settings import Settings, parse_settings

_KEY_BYTES = 32


def group() -> click.Group:
    """Return the commands; none of them needs a plugin that is configured."""
    commands = click.Group("dicom", help="De-identification without a PACS.")
    commands.add_command(deidentify_command)
    return commands


@click.command("deidentify")
@click.argument("source", metavar="IN", type=click.Path(exists=True, path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--profile", default="basic", show_default=True, help=f"{', '.join(PROFILES)}, or the site's.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="One JSON line a file.")
@click.option(
    "--key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The project's key (32 bytes); without one, pseudonyms are of this run alone.",
)
@click.option("--recognizable", is_flag=True, help="Let pass images that may show a face.")
@click.option(
    "--site",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The plugin's file (plugins.d/dicom.toml), for its profiles and what it states about pixels.",
)
def deidentify_command(
    source: Path,
    target: Path,
    profile: str,
    report: Path | None,
    key_file: Path | None,
    recognizable: bool,
    site: Path | None,
) -> None:
    """De-identify a file or a tree; relative names stay. Exit code 1 if anything was refused."""
    key = key_file.read_bytes() if key_file else secrets.token_bytes(_KEY_BYTES)
    if len(key) < _KEY_BYTES:
        raise click.BadParameter(f"a project's key has {_KEY_BYTES} bytes", param_hint="--key-file")
    settings = _settings(site) if site else None
    profiles = settings.site_profiles if settings else ()
    try:
        release = Release("command-line", profile, current_version(profile, profiles))
    except NotSupported as error:
        raise click.BadParameter(f"{error.message}. {error.advice}", param_hint="--profile") from None
    policy = replace(settings.pixels.policy("") if settings else PixelPolicy(), recognizable=recognizable)
    context = Context(key, release, policy, profiles)
    outcomes = _run(source, target, context, settings.max_series_bytes if settings else 0)
    if report:
        report.write_text("".join(_line(outcome) for outcome in outcomes), "utf-8")
    _summary(outcomes)
    sys.exit(int(any(outcome.refusal for outcome in outcomes)))


def _settings(site: Path) -> Settings:
    """Return what a plugin's file says."""
    try:
        return parse_settings(tomllib.loads(site.read_text("utf-8"))["settings"])
    except (ConfigError, KeyError, ValueError) as error:
        raise click.BadParameter(str(error), param_hint="--site") from None


def _run(source: Path, target: Path, context: Context, series_bytes: int) -> list[Outcome]:
    """De-identify all files; a series that needs a transform, as a site's file names it, within a bound."""
    work = list(pairs(source, target))
    outcomes: list[Outcome] = []
    together: dict[bytes, list[_Work]] = {}
    for item in track(work, "De-identifying", console=Console(stderr=True)):
        try:
            outcomes += _outcomes([item], lambda files: [deidentify_file(*files[0], context)])
        except SeriesNeeded as needed:
            together.setdefault(needed.series, []).append(item)
    for files in track(together.values(), "Whole series", console=Console(stderr=True), disable=not together):
        outcomes += _outcomes(files, lambda files: deidentify_series(files, context, series_bytes))
    return sorted(outcomes, key=lambda outcome: outcome.name)


_Work = tuple[Path, Path, Path]


def _outcomes(files: list[_Work], make: Callable[[list[_Work]], list[Outcome]]) -> list[Outcome]:
    """De-identify files; what goes wrong with them is told by its kind, since a text may hold a value."""
    try:
        return make(files)
    except SeriesNeeded:
        raise
    except OSError as error:
        refusal = f"the file cannot be read or written ({type(error).__name__})"
    except Exception as error:  # noqa: BLE001 - a defect at one file may not end the run of the others
        refusal = f"de-identification failed ({type(error).__name__})"
    return [Outcome(name, refusal=refusal) for name, _, _ in files]


def _line(outcome: Outcome) -> str:
    done = json.loads(outcome.report.as_json()) if outcome.report else {"refused": outcome.refusal}
    return json.dumps({"file": str(outcome.name), **done}) + "\n"


def _summary(outcomes: list[Outcome]) -> None:
    table = Table("Outcome", "Files")
    for outcome, count in Counter(item.refusal or "de-identified" for item in outcomes).most_common():
        table.add_row(outcome, str(count))
    Console().print(table)
