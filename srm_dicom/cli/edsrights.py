"""``glite-eds-getacl``, ``-setacl`` and ``-chmod``: who may do what with keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

from srm_dicom.cli import edspermissions
from srm_dicom.cli.edspermissions import Changes
from srm_dicom.cli.edssite import Eds, Failures, common, connected, ending
from srm_dicom.client.keys import KEYS_PER_CALL
from srm_dicom.errors import IntegrityError, InvalidRequest, MdmError
from srm_dicom.wire.hydra.contract import Permission


@click.command(add_help_option=False)
@common
@click.argument("names", metavar="ID...", nargs=-1, required=True)
def getacl(names: tuple[str, ...], **options: Any) -> None:
    """Print owner, group, base permissions and ACL of keys; with -v as each key server tells them."""
    failures = Failures()
    with ending("ERROR "), connected(**options) as eds:
        eds.introduce()
        for name in names:
            with failures.told("ERROR "):
                click.echo("\n".join(_listings(eds, name)))
    failures.end()


def _listings(eds: Eds, name: str) -> list[str]:
    """Return what is printed of a key.

    Raises:
        MdmError: no key server tells, or they do not agree and not each is printed.
    """
    told = eds.permissions(name)
    if eds.loudness != "verbose":
        return [f"# ENTRY: {name}", *edspermissions.listing(_agreed(name, told))]
    lines = []
    for url, permission in told.items():
        lines += [f"# ENTRY: {name}", f"# ENDPOINT: {url}"]
        if isinstance(permission, MdmError):
            lines.append(f"# {permission.message}")
        else:
            lines += edspermissions.listing(permission)
    return lines


def _agreed(name: str, told: Mapping[str, Permission | MdmError]) -> Permission:
    """Return what all key servers say.

    Raises:
        MdmError: they do not say the same.
    """
    first, *_ = (one for one in told.values() if not isinstance(one, MdmError))
    for url, other in told.items():
        if other != first:
            error = other if isinstance(other, MdmError) else IntegrityError("it has others")
            raise type(error)(f"Corrupted permissions for {name}: {url}: {error.message}")
    return first


_batch = click.option("-b", "batch", type=click.IntRange(0), default=0, help="Keys to change in one call.")


@click.command(add_help_option=False)
@common
@_batch
@click.option("-d", "removed", multiple=True, metavar="PRINCIPAL", help="Remove an entry.")
@click.option("-D", "removed_file", type=click.File(), help="Remove the entries of a file, or of - .")
@click.option("-m", "added", multiple=True, metavar="ACL", help="Add or change an entry.")
@click.option("-M", "added_file", type=click.File(), help="Add or change the entries of a file, or of - .")
@click.option("-x", "exact", multiple=True, metavar="ACL", help="Have just this list; NONE for none.")
@click.option("-X", "exact_file", type=click.File(), help="Have just the list of a file, or of - .")
@click.argument("names", metavar="ID...", nargs=-1, required=True)
def setacl(names: tuple[str, ...], batch: int, loudness: str | None, services: Any, **given: Any) -> None:
    """Change the ACL of keys; an entry reads PRINCIPAL:LETTERS.

    -d and -m may be given several times and together, -x several times; -D, -M and -X stand alone.
    """
    with ending("ERROR "):
        changes = _changes(**given)
        with connected(loudness=loudness, services=services) as eds:
            _change(eds, names, batch, changes.applied, "Changed ACLs")


def _changes(**given: Any) -> Changes:
    """Read what `setacl` was told.

    Raises:
        InvalidRequest: nothing, or what does not go together.
    """
    of_files = [name for name in given if name.endswith("_file") and given[name] is not None]
    of_words = [name for name in ("removed", "added", "exact") if given[name]]
    if len(of_files) + bool(of_words) > 1 or ("exact" in of_words and len(of_words) > 1):
        raise InvalidRequest("-D, -M, -X and -x cannot be mixed with other options that change entries")
    texts = {name: tuple(given[name]) for name in of_words}
    texts |= {name.removesuffix("_file"): tuple(edspermissions.lines_of(given[name])) for name in of_files}
    if not any(texts.values()):
        raise InvalidRequest("No operations specified")
    return Changes.read(**texts)


@click.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@common
@_batch
@click.argument("mode", metavar="[ugoa]*(+|-|=)[pdrwlxgs]+")
@click.argument("names", metavar="ID...", nargs=-1, required=True)
def chmod(mode: str, names: tuple[str, ...], batch: int, **options: Any) -> None:
    """Change the base permissions of keys."""
    with ending("ERROR "), connected(**options) as eds:
        _change(eds, names, batch, lambda one: edspermissions.changed_mode(one, mode), "Changed permissions")


def _change(
    eds: Eds, names: Sequence[str], batch: int, change: Callable[[Permission], Permission], done: str
) -> None:
    """Change permissions of keys, several in one call; one that fails does not stop the others.

    Each key server's are changed as it has them itself: what one of them says, true or not, reaches no other.

    Raises:
        SystemExit: one failed.
    """
    eds.introduce()
    failures = Failures()
    changed: dict[str, dict[str, Permission]] = {}
    silent: dict[str, MdmError] = {}
    for name in names:
        with failures.told("ERROR "):
            told = eds.permissions(name)
            after = {url: change(one) for url, one in told.items() if isinstance(one, Permission)}
            changed[name] = {url: one for url, one in after.items() if one != told[url]}
            silent.update((name, one) for one in told.values() if isinstance(one, MdmError))
    waiting, size = [name for name in changed if changed[name]], min(batch or KEYS_PER_CALL, KEYS_PER_CALL)
    for start in range(0, len(waiting), size):
        together = {name: eds.id_of(name) for name in waiting[start : start + size]}
        of_servers = {
            url: {key_id: changed[name][url] for name, key_id in together.items() if url in changed[name]}
            for url in eds.keys.endpoints
        }
        with failures.told(*(f"ERROR Change failed on {name}: " for name in together)):
            eds.keys.set_permissions(of_servers)
            for name in (name for name in together if name not in silent):
                eds.detail(f"{done} on {name}")
    for name, error in silent.items():
        with failures.told(f"ERROR Change failed on {name}: "):
            raise error
    failures.end()
