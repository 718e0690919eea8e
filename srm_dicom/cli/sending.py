"""``mdm put`` and ``mdm rm``: what a user adds to a site and takes away again."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import click

from srm_dicom.cli.exits import INTERRUPTED, exit_code, reported, tell
from srm_dicom.cli.usersite import bars, connected, json_option, outcome
from srm_dicom.client.sending import Sending, Sent, targets
from srm_dicom.errors import MdmError


@click.command(epilog="Example: mdm put result.csv run7/ /biomed/results")
@click.argument("source", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.argument("directory")
@click.option("--overwrite", is_flag=True, help="Replace files of the same names.")
@click.option(
    "--unnamed", is_flag=True, help="Give each file a name by chance: those of images tell of people."
)
@json_option
@reported
def put(source: tuple[Path, ...], directory: str, overwrite: bool, unnamed: bool, as_json: bool) -> None:
    """Send files to a DIRECTORY of the site, a SURL or a path.

    What is in a directory goes below DIRECTORY under the name that it has there; what begins with a dot stays
    behind.
    """
    results: list[Sent] = []
    with connected() as client, _bar(quiet=as_json) as watcher:
        top = client.surl(directory).rstrip("/")
        files = targets(source, top, unnamed=unnamed)
        sender = client.sender(overwrite=overwrite, watcher=watcher)
        try:
            with closing(sender.send(files)) as parts:
                sender.make_directories(files.values(), top)
                results.extend(parts)
        except KeyboardInterrupt:
            click.echo(f"interrupted; {len(results)} of {len(files)} files are at the site", err=True)
            raise SystemExit(INTERRUPTED) from None
    outcomes = [({"path": str(sent.path), "surl": sent.surl}, sent.error) for sent in results]
    _tell(outcomes, f"in {top}", as_json=as_json)


@click.command(epilog="Example: mdm rm srm://se.example.org/vo/run7/a.csv")
@click.argument("name", nargs=-1, required=True)
@json_option
@reported
def rm(name: tuple[str, ...], as_json: bool) -> None:
    """Remove files from the site, each by its LFN, GUID or SURL.

    An image is forgotten by every catalogue, and its key is destroyed with the last of its series; nothing
    happens in the archive.
    """
    with connected() as client:
        outcomes = list(client.remove(name))
    _tell([({"name": called}, error) for called, error in outcomes], "removed", as_json=as_json)


def _tell(outcomes: Sequence[tuple[Mapping[str, str], MdmError | None]], what: str, *, as_json: bool) -> None:
    """Print what became of each file, errors to standard error; ends with the code of the first."""
    failures = [(named, error) for named, error in outcomes if error is not None]
    for named, error in failures:
        tell(error, f"{next(iter(named.values()))}: ")
    if as_json:
        click.echo(json.dumps([{**named, **outcome(error)} for named, error in outcomes], indent=2))
    else:
        click.echo(f"{len(outcomes) - len(failures)} of {len(outcomes)} files {what}")
    if failures:
        raise SystemExit(exit_code(failures[0][1]))


@contextmanager
def _bar(*, quiet: bool) -> Iterator[Sending]:
    """Show how many bytes have gone, of the file that is under way."""
    with bars(quiet=quiet) as progress:
        task = progress.add_task("sending", total=None)
        yield lambda path, done, size: progress.update(
            task, description=path.name, completed=done, total=size
        )
