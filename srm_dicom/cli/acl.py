"""``srm-dicom acl``: the file right of a name, at the storage server and in the file catalogue.

Rights come from projects, and registration writes them; this is for the exception. What the storage server
has is what counts, so it is changed first; the catalogue's ACL of the same name follows, and where that fails
the command is to be repeated. Keys and metadata have ACLs of their own, which this does not touch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import click

from srm_dicom.audit.event import Action
from srm_dicom.cli.audit import note
from srm_dicom.cli.exits import reported
from srm_dicom.cli.options import config_option
from srm_dicom.client.files import FileCatalogueClient
from srm_dicom.daemon.common import ADMIN, Common, host_credential
from srm_dicom.errors import InvalidRequest, NotFound
from srm_dicom.ids import SitePath
from srm_dicom.registry.policy import Places
from srm_dicom.rights.acl import Acl
from srm_dicom.store.namespace import Entry

FILE_LETTERS = frozenset("rwx")


@click.command()
@config_option
@click.argument("name")
@click.option("--modify", "-m", multiple=True, metavar="ENTRY", help="""Set an entry: user:"DN":r""")
@click.option("--remove", "-d", multiple=True, metavar="ENTRY", help="""Drop an entry: user:"DN":""")
@click.option("--recursive", "-R", is_flag=True, help="Everything below too.")
@reported
def acl(config: Path, name: str, modify: tuple[str, ...], remove: tuple[str, ...], recursive: bool) -> None:
    """Show the file ACL of NAME (a SURL or path), or change it."""
    common = Common(config, ADMIN)
    path = common.path_of(name)
    entry = common.stores.namespace.find(path)
    if entry is None:
        raise NotFound("no such file or directory")
    if modify or remove:
        chosen = [entry, *(_below(common, entry) if recursive else ())]
        _change(common, chosen, _entries(modify, remove))
        entry = common.stores.namespace.find(path) or entry
    else:
        note(common, "acl", "", path)
    click.echo(f"# {entry.path}\n# owner: {entry.owner or 'the service'}\n{entry.acl}")


def _entries(modify: Iterable[str], remove: Iterable[str]) -> Acl:
    """Read what is to be set; an entry without permissions is one to drop.

    Raises:
        InvalidRequest: an entry is none, or has letters that mean nothing for a file.
    """
    setting = Acl.parse("\n".join(modify))
    if not all(entry.permissions and entry.permissions <= FILE_LETTERS for entry in setting.entries):
        raise InvalidRequest("an entry to set has letters of rwx", advice="To drop it use --remove.")
    dropping = Acl.parse("\n".join(remove))
    if any(entry.permissions for entry in dropping.entries):
        raise InvalidRequest('an entry to drop has no letters, as in user:"DN":')
    return Acl((*dropping.entries, *setting.entries))


def _change(common: Common, chosen: list[Entry], changes: Acl) -> None:
    rule = "; ".join(map(str, changes.entries))
    note(common, "acl", rule, chosen[0].path, action=Action.RIGHTS_CHANGED)
    changed: dict[Acl, list[SitePath]] = {}
    with common.stores.database.transaction():
        today = common.stores.namespace.find_many([entry.path for entry in chosen])  # others change them too
        for path, entry in today.items():
            acl = entry.acl.changed(changes)
            common.stores.namespace.set_acl(path, acl)
            changed.setdefault(acl, []).append(path)
    config = common.config
    places = Places(config.site.vo, config.site.name, config.site.host)
    catalogue = FileCatalogueClient(config.catalogues.files, host_credential(config.trust))
    for acl, paths in changed.items():
        with suppress(NotFound):  # a file of this storage alone
            catalogue.set_acl([places.lfn(path) for path in paths], acl)


def _below(common: Common, entry: Entry) -> Iterator[Entry]:
    directories: list[SitePath] = [entry.path] if entry.is_directory else []
    while directories:
        for child in common.stores.namespace.children(directories.pop()):
            yield child
            if child.is_directory:
                directories.append(child.path)
