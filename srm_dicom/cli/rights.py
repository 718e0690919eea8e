"""``srm-dicom rights``: keys and attributes follow their projects; runs in the inner zone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import click

from srm_dicom.audit.event import Action
from srm_dicom.cli.audit import note
from srm_dicom.cli.exits import exit_code, reported, tell
from srm_dicom.cli.options import config_option
from srm_dicom.client.metadata import MetadataClient
from srm_dicom.daemon.common import ADMIN, Common, host_credential
from srm_dicom.daemon.inner import key_servers, make_journal, make_places
from srm_dicom.errors import CatalogueUnavailable, KeyQuorumMissing, MdmError
from srm_dicom.rights.acl import Acl

KEYS_PER_STEP = 200


@dataclass(frozen=True, slots=True)
class Told:
    """How far one server has come.

    Attributes:
        what: what it has of this site.
        done: how many of these have the rights of their projects.
        known: how many there are, as far as somebody knows.
    """

    server: str
    what: str
    done: int
    known: int
    error: MdmError | None


@click.command()
@config_option
@reported
def rights(config: Path) -> None:
    """Give keys and attributes the rights that their projects have now.

    After a project has changed, or a server was restored. What is of a project that is not configured any
    more is nobody's then, and what was given by hand goes. Files and names have ACLs of their own: srm-dicom
    acl.
    """
    common = Common(config, ADMIN)
    note(common, "rights", "", action=Action.RIGHTS_CHANGED)
    outcomes = [*_of_keys(common), *_of_collections(common)]
    for told in outcomes:
        many = f"{told.done} of {told.known} {told.what}"
        click.echo(f"{told.server}: {many} have the rights of their projects")
    failed = [(told.server, told.error) for told in outcomes if told.error is not None]
    for server, error in failed:
        tell(error, f"error: {server}: ")
    for _, error in failed:
        raise SystemExit(exit_code(error))


def _of_keys(common: Common) -> Iterator[Told]:
    projects, servers = common.projects, key_servers(common)
    acls = {
        one.key_id: projects[project].key_acl() if project in projects else Acl()
        for project, one in make_journal(common).known_keys()
    }
    done: dict[str, int] = {}
    failures: dict[str, MdmError] = {}
    ids = list(acls)
    for start in range(0, len(ids), KEYS_PER_STEP):
        step = {key_id: acls[key_id] for key_id in ids[start : start + KEYS_PER_STEP]}
        for server, told in servers.set_acls(step).items():
            if isinstance(told, MdmError):
                failures[server] = told
            else:
                done[server] = done.get(server, 0) + len(step) - len(told)
    for server in sorted({*done, *failures}):
        count, error = done.get(server, 0), failures.get(server)
        if error is None and count < len(acls):
            error = KeyQuorumMissing("it has not all keys", advice="Give srm-dicom keys reshare.")
        yield Told(server, "keys", count, len(acls), error)


def _of_collections(common: Common) -> Iterator[Told]:
    """Let the metadata servers hear of every project that has or had files here."""
    namespace, root = common.stores.namespace, make_places(common).root()
    released = {entry.release.project for entry in namespace.children(root) if entry.release is not None}
    projects = sorted(released | common.projects.keys())
    credential = host_credential(common.config.trust)
    for endpoint in common.config.catalogues.metadata:
        with closing(MetadataClient(endpoint, credential)) as server:
            yield _of_server(common, server, projects)


def _of_server(common: Common, server: MetadataClient, projects: Iterable[str]) -> Told:
    known, done, failure = 0, 0, None
    for name in projects:
        collection, project = make_places(common).collection(name), common.projects.get(name)
        try:
            if not server.has(collection):  # nothing was ever registered
                continue
            known += 1
            server.set_acl(collection, project.metadata_acl() if project else Acl())
            if project:
                server.set_valid_until(collection, project.valid_until)
            done += 1
        except MdmError as error:
            failure = failure or error
            if isinstance(error, CatalogueUnavailable):
                break
    return Told(server.endpoint, "collections", done, known, failure)
