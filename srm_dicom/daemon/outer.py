"""The outer zone: what users call. Nothing here opens a secret, a plugin or a PACS."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from srm_dicom import config as configuration
from srm_dicom.audit.doors import DoorLog
from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.admission import BrokerSettings
from srm_dicom.broker.broker import Broker
from srm_dicom.broker.janitor import Janitor, SpaceSettings
from srm_dicom.broker.spaces import SpaceBounds
from srm_dicom.clock import Clock, coarse
from srm_dicom.daemon import gauges
from srm_dicom.daemon.common import Common, Loop, host_credential
from srm_dicom.daemon.coredump import never_dump
from srm_dicom.errors import ConfigError, InvalidRequest
from srm_dicom.identity.gate import Gate
from srm_dicom.identity.tokens import Issuer, TokenSettings, TokenVerifier
from srm_dicom.scratch.area import ScratchArea
from srm_dicom.scratch.sealeduploads import SealedBounds, SealedUploads
from srm_dicom.srm.service import application as srm_application
from srm_dicom.srm.v1.service import PATH as V1_PATH
from srm_dicom.srm.v1.service import application as v1_application
from srm_dicom.transfer.carrying import Carrying, CarryingSettings
from srm_dicom.transfer.copying import Copies, CopySettings
from srm_dicom.transfer.copyinghere import CopiesHere
from srm_dicom.transfer.davmessage import Handlers
from srm_dicom.transfer.davopening import Opening
from srm_dicom.transfer.davwrites import Writes
from srm_dicom.transfer.delegations import PATH as DELEGATION_PATH
from srm_dicom.transfer.delegations import Delegations, DelegationService
from srm_dicom.transfer.files import ServedFiles, WrittenFiles
from srm_dicom.transfer.gridftp import GridFtpDoor, GridFtpSettings
from srm_dicom.transfer.handedin import HandedIn
from srm_dicom.transfer.hosts import CopyHosts
from srm_dicom.transfer.intake import Intake
from srm_dicom.transfer.intake import application as intake_application
from srm_dicom.transfer.mover import Mover
from srm_dicom.transfer.nearline import Nearline, NearlineSettings
from srm_dicom.transfer.ownside import OwnSide
from srm_dicom.transfer.served import StagedFilesOfNode
from srm_dicom.transfer.stripelink import StripeNodes
from srm_dicom.transfer.stripenode import NodeServices, StripeNode
from srm_dicom.transfer.tape import TapeApi, TapeSettings
from srm_dicom.transfer.webdav import WebDavDoor
from srm_dicom.transfer.written import WrittenFilesOfNode
from srm_dicom.tuning import allow_descriptors
from srm_dicom.turns import Turns
from srm_dicom.web.hosting import Service
from srm_dicom.web.limits import Limits
from srm_dicom.web.routes import routed
from srm_dicom.web.server import WebServer
from srm_dicom.wire.gridftp.addresses import Address
from srm_dicom.wire.tape import BASE, DISCOVERY

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

SOAP_BODY_BYTES = 8 * 2**20
"""A request for 50,000 files; what is larger is refused before it is read."""

SRM_IDLE_S = 330.0
"""gfal2 sleeps up to 300 s between two polls, and then has only the connection that it had before."""

HOLD_S = 0.25
"""One image that the archive has at hand is staged in a few hundredths of a second; gfal2 asks for it again
half a second after it has heard that it is not, ARC after a whole one."""

ANY_BYTES = 2**63 - 1
"""Of a body that is never read whole: who uploads to a door for reading is to hear just that."""


def front(path: Path) -> list[Service]:
    """The SRM."""
    common = Common(path, "front")
    config = common.config
    shown_at = coarse(common.clock.now())
    common.areas().prepare(common.stores.namespace, common.projects, shown_at)
    access = common.access()
    broker, gate = make_broker(common, access), common.gate()
    delegations = Delegations(common.clock)
    below: dict[str, WSGIApplication] = {V1_PATH: v1_application(broker)}
    carrying = make_carrying(common, broker, access, gate, delegations)
    broker.copies.employ(carrying)
    if config.copies.hosts:
        below[DELEGATION_PATH] = DelegationService(delegations)
    server = WebServer(
        routed(srm_application(broker), below),
        gate,
        host=config.srm.host,
        port=config.srm.port,
        maximum_tls=ssl.TLSVersion.TLSv1_2,
        limits=replace(web_limits(config, SOAP_BODY_BYTES), idle_s=SRM_IDLE_S),
        name="srm",
        audit=common.audit,
    )
    told = common.reporting(*gauges.of_requests(common.stores.requests, common.clock))
    return [*told, Loop("copies", carrying.run), server]


def make_carrying(
    common: Common, broker: Broker, access: FileAccess, gate: Gate, delegations: Delegations
) -> Carrying:
    """Make what moves files for srmCopy, and between this site and others where [copies.hosts] has some.

    Raises:
        ConfigError: the table contradicts itself.
    """
    area = ScratchArea(common.config.scratch.directory)
    settings = CarryingSettings(
        common.worker("front"), common.config.trust.certificates, common.config.copies.at_once
    )
    return Carrying(
        settings,
        broker.copies,
        OwnSide(broker, make_files(common, area, access), common.clock),
        WrittenFilesOfNode(area, broker.puts, broker.names),
        make_mover(common.config.copies),
        delegations,
        gate,
        common.clock,
    )


def make_files(common: Common, area: ScratchArea, access: FileAccess) -> StagedFilesOfNode:
    """Make what doors and copies read."""
    allow_descriptors()
    return StagedFilesOfNode(
        common.node,
        area,
        common.stores,
        access,
        common.audit,
        common.clock,
        common.spending(),
        common.areas(),
    )


def make_mover(table: configuration.Copies) -> Mover | None:
    """Make what moves files between this site and others; None where no copy can go anywhere.

    Raises:
        ConfigError: the table contradicts itself.
    """
    return Mover(CopyHosts.parse(table.hosts, table.networks, table.never)) if table.hosts else None


def make_broker(common: Common, access: FileAccess) -> Broker:
    """Make what takes requests in; the front and the doors have one each, over the same rows."""
    config = common.config
    bounds = config.requests
    settings = BrokerSettings(
        host=f"{config.site.host}:{config.srm.port}",
        aliases=config.site.aliases,
        nodes={common.node: transfer_urls(config)},
        max_files=bounds.max_files,
        max_total_s=bounds.max_total_s,
        default_total_s=bounds.default_total_s,
        default_put_s=bounds.default_put_s,
        spaces=SpaceBounds(bounds.reservable_bytes),
        max_pin_s=bounds.max_pin_s,
        default_pin_s=bounds.default_pin_s,
        hold_s=HOLD_S,
        quota_bytes=config.scratch.quota_bytes,
    )
    return Broker(settings, common.stores, access, common.clock, common.areas())


def transfer_urls(config: configuration.Config) -> dict[str, str]:
    """Return where the doors are, by protocol; the site prefers what comes first."""
    host = config.site.host
    return {
        "gsiftp": f"gsiftp://{host}:{config.gridftp.listen.port}",
        "https": f"https://{host}:{config.webdav.listen.port}",
    }


def transfer(path: Path) -> list[Service]:
    """The doors over this machine's scratch, its janitor, and the intake if stagers push into it."""
    common = Common(path, "transfer")
    config = common.config
    area = ScratchArea(config.scratch.directory)
    scratch = config.scratch
    space = SpaceSettings(
        scratch.high_bytes,
        scratch.low_bytes,
        scratch.quota_bytes,
        scratch.spare_bytes,
        retention_s=config.requests.retention_s,
    )
    janitor = Janitor(common.node, area, common.stores, space, common.clock)
    access = common.access()
    files = make_files(common, area, access)
    told = common.reporting(*gauges.of_scratch(common.stores.staged, common.node, scratch))
    services: list[Service] = [*told, Loop("janitor", janitor.run)]
    broker = make_broker(common, access)
    sealed = make_sealed(common, area)
    if sealed is not None:
        keeper = HandedIn(sealed, common.stores.uploads, broker.puts, common.node)
        services.append(Loop("uploads", keeper.run))
    if config.intake is not None:
        services.append(make_intake(common, area, config.intake, sealed))
    written = WrittenFilesOfNode(area, broker.puts, broker.names, sealed)
    gridftp = GridFtpDoor(
        files,
        common.gate(),
        gridftp_settings(config),
        common.clock,
        common.audit,
        written,
        make_nodes(common),
    )
    return [*services, gridftp, make_webdav(common, files, written, broker)]


def make_sealed(common: Common, area: ScratchArea) -> SealedUploads | None:
    """Make what takes images in, and leave no picture of their bytes; None where none are taken.

    Raises:
        ConfigError: the inner zone could not fetch them.
    """
    if not any(one.sealed for one in common.config.areas):
        return None
    if common.config.intake is None:
        raise ConfigError(
            "[[areas]] has a sealed one, and there is no [intake]",
            advice="The inner zone fetches what is uploaded there through the intake, and nowhere else.",
        )
    never_dump()
    scratch = common.config.scratch
    return SealedUploads(area, SealedBounds(scratch.sealed_uploads, scratch.sealed_upload_bytes))


def stripe(path: Path) -> list[Service]:
    """A transfer node for the doors of another machine; it shares their scratch directory and database.

    Raises:
        ConfigError: no door may use it.
    """
    common = Common(path, "stripe")
    config = common.config
    if not config.stripes.doors:
        raise ConfigError(
            "[stripes] doors is empty", advice="List the names of the doors' host certificates."
        )
    area, access = ScratchArea(config.scratch.directory), common.access()
    broker = make_broker(common, access)
    settings = gridftp_settings(config)
    services = NodeServices(
        make_files(common, area, access),
        WrittenFilesOfNode(area, broker.puts, broker.names),
        common.gate(),
        common.clock,
        settings.data,
        settings.policy,
        frozenset(config.stripes.doors),
        DoorLog(common.audit, "stripes", common.clock),
        settings.max_sessions,
        settings.max_sessions * 3 // 4,  # the door's machine is one address for all of its callers
        Turns(settings.max_sessions, settings.max_sessions_per_identity),
    )
    listen = config.stripes.listen
    return [*common.reporting(), StripeNode(services, listen.host, listen.port)]


def web_limits(config: configuration.Config, body_bytes: int) -> Limits:
    """Return what peers of a web server may cost."""
    bounds = config.connections
    return Limits(bounds.at_once, bounds.per_address, bounds.per_identity, body_bytes=body_bytes)


def gridftp_settings(config: configuration.Config) -> GridFtpSettings:
    """Read what concerns the GridFTP door."""
    table, bounds = config.gridftp, config.connections
    return GridFtpSettings(
        host=table.listen.host,
        port=table.listen.port,
        data_ports=table.data_ports,
        data_host=table.data_host,
        max_sessions=bounds.at_once,
        max_sessions_per_address=bounds.per_address,
        max_sessions_per_identity=bounds.per_identity,
        active=table.mode_e_active,
        third_party=table.third_party,
        third_party_public=table.third_party_public,
    )


def make_nodes(common: Common) -> StripeNodes | None:
    """Make what calls the site's other transfer nodes; None where there are none.

    Raises:
        ConfigError: one of them is not ``host:port``.
    """
    nodes = [address_of(text) for text in common.config.stripes.nodes]
    return StripeNodes(nodes, host_credential(common.config.trust)) if nodes else None


def address_of(text: str) -> Address:
    """Read ``host:port``.

    Raises:
        ConfigError: it is something else.
    """
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ConfigError(f"[stripes] nodes: {text} is not host:port")
    return Address(host.strip("[]"), int(port))


def make_webdav(common: Common, files: ServedFiles, written: WrittenFiles, broker: Broker) -> WebServer:
    """Make the HTTPS/WebDAV door, with the Tape REST API and the delegation service on its port."""
    listen = common.config.webdav.listen
    url = transfer_urls(common.config)["https"]
    tape = TapeApi(broker, TapeSettings(common.config.site.host, url))
    delegations = Delegations(common.clock)
    changes = Writes(files, written).handlers
    settings = NearlineSettings(common.config.site.host, common.config.webdav.staging_s)
    nearline = Nearline(broker, settings, common.clock)
    copies = make_copies(common, files, written, nearline, delegations, url)
    door = WebDavDoor(files, more={**changes, **copies}, nearline=nearline)
    below: dict[str, WSGIApplication] = {DISCOVERY: tape, BASE: tape}
    below[DELEGATION_PATH] = DelegationService(delegations)
    return WebServer(
        routed(door, below),
        common.gate(),
        host=listen.host,
        port=listen.port,
        limits=web_limits(common.config, ANY_BYTES),
        name="webdav",
        audit=common.audit,
        tokens=make_tokens(common.config.webdav.tokens, common.clock),
    )


def make_copies(
    common: Common,
    files: ServedFiles,
    written: WrittenFiles,
    nearline: Nearline,
    delegations: Delegations,
    url: str,
) -> Handlers:
    """Make the handler of COPY; where no host is listed files are copied to other names here alone.

    Raises:
        ConfigError: the table contradicts itself.
    """
    table = common.config.copies
    mover = make_mover(table)
    if mover is None:
        return CopiesHere(files, written, Opening(files, nearline)).handlers
    settings = CopySettings(url, common.config.trust.certificates, table.at_once)
    return Copies(files, mover, delegations, settings, common.clock, written, nearline).handlers


def make_tokens(tokens: configuration.Tokens | None, clock: Clock) -> TokenVerifier | None:
    """Make what reads the bearer tokens of a door; None where none are taken.

    Raises:
        ConfigError: the table contradicts itself.
    """
    if tokens is None:
        return None
    issuers = tuple(Issuer(**msgspec.structs.asdict(issuer)) for issuer in tokens.issuers)
    settings = TokenSettings(issuers, tokens.map_file, tokens.skew_s, tokens.lifetime_s)
    try:
        return TokenVerifier(settings, clock)
    except InvalidRequest as error:
        raise ConfigError(f"[webdav.tokens]: {error.message}") from error


def make_intake(
    common: Common, area: ScratchArea, settings: configuration.Intake, sealed: SealedUploads | None
) -> WebServer:
    """Make the port that stagers push to, and fetch from what users upload."""
    return WebServer(
        intake_application(Intake(area, settings.stagers, common.audit, sealed)),
        common.gate(),
        host=settings.listen.host,
        port=settings.listen.port,
        limits=web_limits(common.config, settings.max_file_bytes),
        name="intake",
        audit=common.audit,
    )
