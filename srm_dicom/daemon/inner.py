"""The inner zone: what speaks to a PACS, holds secrets, and calls everybody itself."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import msgspec

from srm_dicom import tomlfile
from srm_dicom.broker.publish import Publisher
from srm_dicom.broker.room import Room
from srm_dicom.broker.secrets import InnerSecrets
from srm_dicom.broker.sink import Sealing
from srm_dicom.broker.stager import Stager
from srm_dicom.broker.stagersettings import StagerSettings
from srm_dicom.broker.storing import Storing, StoringSettings
from srm_dicom.client.files import FileCatalogueClient
from srm_dicom.client.keys import KeyServers
from srm_dicom.client.metadata import MetadataClient
from srm_dicom.client.scratch import RemoteScratch
from srm_dicom.config import Inner, PluginFile
from srm_dicom.crypto.signing import trusting
from srm_dicom.daemon import gauges
from srm_dicom.daemon.common import Common, Loop, host_credential
from srm_dicom.daemon.coredump import never_dump
from srm_dicom.daemon.reload import PluginFiles
from srm_dicom.db.database import Database
from srm_dicom.errors import ConfigError, MdmError
from srm_dicom.plugin.api import Arrived, PluginContext, Spooling
from srm_dicom.plugin.attending import Attending
from srm_dicom.plugin.host import PluginHost
from srm_dicom.registry.destruction import Destroyer, Destructions
from srm_dicom.registry.erasure import Erasure
from srm_dicom.registry.journal import Journal
from srm_dicom.registry.policy import Places
from srm_dicom.registry.registrar import Feed, Registrar, RegistrarSettings, arrivals
from srm_dicom.registry.saga import Catalogues, Saga
from srm_dicom.registry.unregistering import Unregistering
from srm_dicom.scratch.area import ScratchArea
from srm_dicom.scratch.node import ScratchNode
from srm_dicom.scratch.slot import SlotSettings
from srm_dicom.scratch.spool import SealedSpool
from srm_dicom.scratch.workshop import Workshop
from srm_dicom.tuning import tune_for_arrivals
from srm_dicom.web.hosting import Service

MOST_WORKERS = 8
"""That are started by themselves: so many are as fast as what one process receives and publishes."""


def stager(path: Path) -> list[Service]:
    """The stager."""
    never_dump()
    common = Common(path, "stager")
    inner = common.inner()
    secrets = InnerSecrets.load(inner.secrets)
    tune_for_arrivals()
    inner.spool.mkdir(parents=True, exist_ok=True, mode=0o700)
    slots = SlotSettings(inner.spool, inner.spool_above_bytes, inner.max_object_bytes)
    check_areas(common)
    node = scratch_node(common)
    workshop = make_workshop(common, node, secrets.seal_key)
    hosts = load_plugins(common, workshop)
    workshop.modules = [host.module for host in hosts.values()]
    worker = Stager(
        StagerSettings(common.worker("stager"), visits=inner.visits, visit_s=inner.visit_s),
        hosts,
        common.stores,
        Publisher(common.node, node, common.stores, secrets.signing_key, common.clock),
        Sealing(secrets.seal_key, slots, workshop),
        common.audit,
        common.clock,
        Room(common.config.scratch.quota_bytes, partial(common.stores.lying, common.node)),
    )
    storing = Storing(
        StoringSettings(common.worker("storing"), common.node),
        hosts,
        common.stores,
        node,
        common.areas(),
        secrets.signing_key,
        common.audit,
        common.clock,
        arrived=handed_in(common, hosts),
    )
    return [
        *common.reporting(),
        workshop,
        Loop("plugins", PluginFiles(inner.plugins, hosts).run),
        Loop("stager", worker.run),
        Loop("storing", storing.run),
    ]


def handed_in(common: Common, hosts: Mapping[str, PluginHost]) -> dict[str, Arrived]:
    """Return whom to tell of what users hand in: the journal, for each plugin that is handed something."""
    files = tomlfile.load_directory(common.inner().plugins, PluginFile)
    sealed = {
        area.plugin for area in common.config.areas if area.plugin in files and files[area.plugin].sealed
    }
    if not sealed:
        return {}
    journal = make_journal(common)
    feeds = {name: _feed(common, name, files[name], hosts[name]) for name in sealed}
    clock = common.clock
    return {name: arrivals(journal, name, feed.releases(clock.now()), clock) for name, feed in feeds.items()}


def check_areas(common: Common) -> None:
    """See that the areas where users write and the plugins that keep their files agree.

    Raises:
        ConfigError: an area names no plugin, or one whose files are sealed when its own are not, or the other
            way round; or what is handed in could not be fetched.
    """
    files = tomlfile.load_directory(common.inner().plugins, PluginFile)
    for area in common.config.areas:
        if area.plugin not in files:
            raise ConfigError(f"[[areas]] names the plugin {area.plugin}, which plugins.d has not")
        if files[area.plugin].sealed != area.sealed:
            raise ConfigError(
                f"[[areas]] {area.path} and plugins.d/{area.plugin}.toml differ about `sealed`",
                advice="Where images are handed in both say true, where files are kept as they are false.",
            )
        if area.sealed and not common.inner().node:
            raise ConfigError(
                f"[[areas]] {area.path} is sealed, and inner.node is missing",
                advice="What is uploaded there is fetched through the node's intake, and nowhere else.",
            )


def make_workshop(common: Common, node: ScratchNode, seal_key: bytes) -> Workshop:
    """Make the workshop of a stager: a worker for each core, where there is more than one.

    They write into scratch themselves where that is a directory of this machine.
    """
    inner, cores = common.inner(), len(os.sched_getaffinity(0))
    by_itself = min(cores, MOST_WORKERS) if cores > 1 else 0
    return Workshop(
        (sys.executable, "-m", "srm_dicom.daemon.worker"),
        by_itself if inner.workers is None else inner.workers,
        room_bytes=2 * inner.spool_above_bytes,
        seal_key=seal_key,
        attended_bytes=inner.spool_above_bytes,
        begin=node.begin if isinstance(node, ScratchArea) else None,
    )


def scratch_node(common: Common) -> ScratchNode:
    """Return where the stager puts what it has sealed: a node that it calls, or this machine."""
    node = common.inner().node
    if node:
        return RemoteScratch(node, host_credential(common.config.trust))
    return ScratchArea(common.config.scratch.directory)


def registrar(path: Path) -> list[Service]:
    """The registrar."""
    never_dump()
    common = Common(path, "registrar")
    destroyer, orders = make_destroyer(common), Destructions(Database(common.inner().database))
    told = gauges.of_registration(make_journal(common), common.stores.unregistrations, orders)
    return [
        *common.reporting(*told),
        Loop("registrar", make_registrar(common).run),
        Loop("destroyer", destroyer.run),
    ]


def make_journal(common: Common) -> Journal:
    """Open the registrar's journal."""
    inner = common.inner()
    return Journal(Database(inner.database), InnerSecrets.load(inner.secrets).journal_key)


def make_destroyer(common: Common, servers: KeyServers | None = None) -> Destroyer:
    """Make what has keys destroyed; by default on the key servers of the configuration."""
    destructions = Destructions(Database(common.inner().database))
    return Destroyer(destructions, servers or key_servers(common), common.audit, common.clock)


def key_servers(common: Common, endpoints: Sequence[str] = ()) -> KeyServers:
    """Return key servers, by default those of the configuration, as the registering site sees them."""
    secrets = InnerSecrets.load(common.inner().secrets)
    urls = tuple(endpoints) or common.config.catalogues.keys
    sites = trusting(secrets.signing_key.public_key())
    return KeyServers(urls, host_credential(common.config.trust), sites=sites)


def make_registrar(common: Common) -> Registrar:
    """Make the registrar with its journal, saga and feeds."""
    secrets = InnerSecrets.load(common.inner().secrets)
    journal, catalogues = make_journal(common), make_catalogues(common)
    saga = Saga(
        make_places(common),
        common.projects,
        journal,
        common.stores.namespace,
        catalogues,
        secrets.signing_key,
        common.clock,
        generation=common.stores.unregistrations.generation,
    )
    unregistering = make_unregistering(common, journal, catalogues, make_destroyer(common, catalogues.keys))
    settings = RegistrarSettings(**msgspec.structs.asdict(common.config.registrar))
    return Registrar(
        settings,
        load_feeds(common),
        journal,
        saga,
        common.stores.requests,
        common.audit,
        common.clock,
        unregistering=unregistering,
    )


def make_catalogues(common: Common) -> Catalogues:
    """Return the catalogues as the registrar sees them."""
    config = common.config
    credential = host_credential(config.trust)
    return Catalogues(
        keys=key_servers(common),
        files=FileCatalogueClient(config.catalogues.files, credential),
        metadata=[MetadataClient(endpoint, credential) for endpoint in config.catalogues.metadata],
        threshold=config.catalogues.threshold,
    )


def make_places(common: Common) -> Places:
    """Return the names of this site."""
    config = common.config
    return Places(config.site.vo, config.site.name, f"{config.site.host}:{config.srm.port}")


def make_unregistering(
    common: Common, journal: Journal, catalogues: Catalogues, destroyer: Destroyer
) -> Unregistering:
    """Make what has removed files forgotten."""
    return Unregistering(
        make_places(common), common.stores, journal, catalogues, destroyer, common.audit, common.clock
    )


@contextmanager
def erasing(common: Common) -> Iterator[Erasure]:
    """Make what finds and erases a patient's files, for as long as a block runs."""
    hosts, journal, catalogues = load_plugins(common), make_journal(common), make_catalogues(common)
    destroyer = make_destroyer(common, catalogues.keys)
    unregistering = make_unregistering(common, journal, catalogues, destroyer)
    try:
        yield Erasure(
            make_places(common), common.stores, hosts, journal, unregistering, destroyer, common.audit
        )
    finally:
        for host in hosts.values():
            host.close()


def load_plugins(common: Common, attending: Attending | None = None) -> dict[str, PluginHost]:
    """Load every plugin of ``plugins.d``, with who attends connections for it."""
    inner = common.inner()
    files = tomlfile.load_directory(inner.plugins, PluginFile)
    return {name: _load_plugin(common, name, file, attending) for name, file in files.items()}


def load_usable(common: Common) -> tuple[dict[str, PluginHost], dict[str, MdmError]]:
    """Load the plugins whose files can be used, and tell why the others cannot.

    Raises:
        ConfigError: their directory is not there, or may not be read.
    """
    hosts: dict[str, PluginHost] = {}
    unusable: dict[str, MdmError] = {}
    for path in tomlfile.files_in(common.inner().plugins):
        try:
            hosts[path.stem] = _load_plugin(common, path.stem, tomlfile.read(path, PluginFile))
        except MdmError as error:
            unusable[path.stem] = error
    return hosts, unusable


def load_feeds(common: Common) -> dict[str, Feed]:
    """Load every plugin with the projects that it feeds."""
    files = tomlfile.load_directory(common.inner().plugins, PluginFile)
    return {name: _feed(common, name, file, _load_plugin(common, name, file)) for name, file in files.items()}


def _feed(common: Common, name: str, file: PluginFile, host: PluginHost) -> Feed:
    for project in file.projects:
        if project not in common.projects:
            raise ConfigError(f"plugins.d/{name}.toml names the project {project}, which projects.d has not")
    return Feed(host, file.projects, common.projects, file.sealed)


def _load_plugin(
    common: Common, name: str, file: PluginFile, attending: Attending | None = None
) -> PluginHost:
    context = PluginContext(
        name,
        file.settings,
        common.inner().secrets / name,
        common.clock,
        seals=file.sealed,
        spooling=Spooling(common.inner().spool_above_bytes, partial(_spool, common.inner())),
        attending=attending,
    )
    return PluginHost.load(file.plugin, context)


def _spool(inner: Inner) -> SealedSpool:
    inner.spool.mkdir(parents=True, exist_ok=True, mode=0o700)
    return SealedSpool(inner.spool, memory_bytes=0, max_bytes=inner.max_object_bytes)
