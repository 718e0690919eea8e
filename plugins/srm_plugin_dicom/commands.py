"""``srm-dicom dicom ...``: what an administrator can do with the plugin on the command line."""

from __future__ import annotations

import json
import secrets
import sys
from collections import Counter
from pathlib import Path

import click
from rich.console import Console
from rich.progress import track
from rich.table import Table

from srm_dicom.rights.project import Release
from srm_plugin_dicom.deidentify import PROFILES, Context, PixelPolicy, current_version
from srm_plugin_dicom.deidentify.files import Outcome, deidentify_file, pairs

_KEY_BYTES = 32


def group() -> click.Group:
    """Return the commands; none of them needs a plugin that is configured."""
    commands = click.Group("dicom", help="De-identification without a PACS.")
    commands.add_command(deidentify_command)
    return commands


@click.command("deidentify")
@click.argument("source", metavar="IN", type=click.Path(exists=True, path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--profile", default="basic", type=click.Choice(sorted(PROFILES)), show_default=True)
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="One JSON line a file.")
@click.option(
    "--key-file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The project's key (32 bytes); without one, pseudonyms are of this run alone.",
)
@click.option("--recognizable", is_flag=True, help="Let pass images that may show a face.")
def deidentify_command(
    source: Path, target: Path, profile: str, report: Path | None, key_file: Path | None, recognizable: bool
) -> None:
    """De-identify a file or a tree; relative names stay. Exit code 1 if anything was refused."""
    key = key_file.read_bytes() if key_file else secrets.token_bytes(_KEY_BYTES)
    if len(key) < _KEY_BYTES:
        raise click.BadParameter(f"a project's key has {_KEY_BYTES} bytes", param_hint="--key-file")
    release = Release("command-line", profile, current_version(profile))
    context = Context(key, release, PixelPolicy(recognizable=recognizable))
    outcomes = _run(source, target, context)
    if report:
        report.write_text("".join(_line(outcome) for outcome in outcomes), "utf-8")
    _summary(outcomes)
    sys.exit(int(any(outcome.refusal for outcome in outcomes)))


def _run(source: Path, target: Path, context: Context) -> list[Outcome]:
    work = list(pairs(source, target))
    progress = track(work, "De-identifying", console=Console(stderr=True))
    return [deidentify_file(*item, context) for item in progress]


def _line(outcome: Outcome) -> str:
    done = json.loads(outcome.report.as_json()) if outcome.report else {"refused": outcome.refusal}
    return json.dumps({"file": str(outcome.name), **done}) + "\n"


def _summary(outcomes: list[Outcome]) -> None:
    table = Table("Outcome", "Files")
    for outcome, count in Counter(item.refusal or "de-identified" for item in outcomes).most_common():
        table.add_row(outcome, str(count))
    Console().print(table)
