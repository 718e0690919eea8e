"""``srm-dicom check``: one line for each thing that must be right before the doors open."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from srm_dicom.broker.secrets import InnerSecrets
from srm_dicom.broker.views import FileState
from srm_dicom.cli import modes
from srm_dicom.client.http import HttpClient
from srm_dicom.client.metadata import MetadataClient
from srm_dicom.daemon.common import CHECK, Common, host_credential
from srm_dicom.daemon.inner import check_areas, load_usable
from srm_dicom.db.database import FAILURES
from srm_dicom.errors import MdmError
from srm_dicom.plugin.api import Check
from srm_dicom.scratch.area import ScratchArea

SOON = timedelta(days=14)
"""A certificate or a project that ends within this time fails the check."""

MOST_APART_S = 30.0
"""Of two clocks; a ``Date`` has whole seconds."""

REACH_S = 5.0
"""That a catalogue may take to answer."""

_NO_MATTER = 9
"""A port to look for the way to, not to send anything to."""


def run(config: Path) -> Iterator[Check]:
    """Yield every check of a site; one that breaks is one that failed.

    Raises:
        ConfigError: the configuration itself is not usable.
    """
    common = Common(config, CHECK)
    yield Check("configuration", passed=True, detail=str(config))
    yield from _each(
        ("host certificate", lambda: _certificate(common)),
        ("trust", lambda: _trust(common)),
        ("projects", lambda: _projects(common)),
        ("scratch", lambda: _scratch(common)),
        ("database", lambda: _database(common)),
        ("modes of files", lambda: modes.look(config, common.config)),
    )
    if common.config.inner is not None:
        yield from _each(("secrets", lambda: _secrets(common)))
        yield from _each(("key servers", lambda: _apart(common)))
        if common.config.areas:
            yield from _each(("areas", lambda: areas(common)))
        node = [common.inner().node] if common.inner().node else []
        for endpoint in (*common.config.catalogues.keys, common.config.catalogues.files, *node):
            yield from _each((f"reach {endpoint}", partial(_reach, common, endpoint)))
        for endpoint in common.config.catalogues.metadata:
            yield from _each((f"reach {endpoint}", partial(_metadata, common, endpoint)))
        yield from _plugins(common)


def _each(*named: tuple[str, Callable[[], str]]) -> Iterator[Check]:
    for name, look in named:
        try:
            yield Check(name, passed=True, detail=look())
        except (MdmError, OSError, ssl.SSLError, ValueError) as error:
            yield Check(name, passed=False, detail=str(error))


def _certificate(common: Common) -> str:
    pem = common.config.trust.host_certificate.read_bytes()
    ends = x509.load_pem_x509_certificate(pem).not_valid_after_utc
    if ends - datetime.now(UTC) < SOON:
        raise ValueError(f"ends {ends:%Y-%m-%d}")
    return f"ends {ends:%Y-%m-%d}"


def _trust(common: Common) -> str:
    directory = common.config.trust.certificates
    authorities = sorted(directory.glob("*.0"))
    if not authorities:
        raise ValueError(f"no authority in {directory}")
    for authority in authorities:
        if common.config.trust.crl == "require" and not authority.with_suffix(".r0").exists():
            raise ValueError(f"{authority.name} has no CRL; its users will be refused")
    common.gate().server_context()
    return f"{len(authorities)} authorities"


def _projects(common: Common) -> str:
    for project in common.projects.values():
        if project.valid_until - common.clock.now() < SOON:
            raise ValueError(f"{project.id} ends {project.valid_until:%Y-%m-%d}")
    return f"{len(common.projects)} valid"


def _scratch(common: Common) -> str:
    """Look how much room is left; an inner zone that pushes never looks into the directory itself."""
    directory, inner = common.config.scratch.directory, common.config.inner
    if inner is None or not inner.node:
        space = ScratchArea(directory).free_bytes()
    elif directory.exists():
        file_system = os.statvfs(directory)
        space = file_system.f_bavail * file_system.f_frsize
    else:
        return "another machine has it"
    if space < common.config.scratch.low_bytes // 10:
        raise ValueError(f"only {space // 2**20} MiB free")
    return f"{space // 2**30} GiB free"


def _database(common: Common) -> str:
    """See that it can be read and written, as every role has to."""
    try:
        with common.stores.database.transaction():
            waiting = common.stores.requests.counts().get(FileState.QUEUED, 0)
    except FAILURES as error:
        raise OSError(f"it does not answer ({type(error).__name__})") from None
    return f"it can be written, and {waiting} files wait to be fetched"


def _secrets(common: Common) -> str:
    InnerSecrets.load(common.inner().secrets)
    return "readable by this user only"


def areas(common: Common) -> str:
    """See that the stager will find the areas as it needs them."""
    check_areas(common)
    sealed = sum(area.sealed for area in common.config.areas)
    return f"{len(common.config.areas)} opened, {sealed} of them for handing in images"


def _apart(common: Common) -> str:
    """Look whether key servers stand apart: two on one machine are one administration with two shares.

    And whether a share is less than a key.
    """
    catalogues = common.config.catalogues
    n, k = len(catalogues.keys), catalogues.threshold
    if not 1 <= k <= n:
        raise ValueError(f"{k} of {n} makes no sense; mend catalogues.threshold")
    alone = "a share is the key itself, each of them could read every file" if k == 1 else ""
    if alone and not catalogues.one_machine:
        raise ValueError(f"with 1 of {n} needed {alone}; mend catalogues.threshold")
    machines: dict[str, str] = {}
    for url in catalogues.keys:
        parts = urlsplit(url)
        for address in {one[4][0] for one in socket.getaddrinfo(parts.hostname, parts.port)}:
            machine = _machine(str(address))
            other = machines.setdefault(machine, url)
            if other != url and not catalogues.one_machine:
                raise ValueError(f"{other} and {url} are one machine ({machine}); it would hold two shares")
    trying = "on one machine: for trying out only" if catalogues.one_machine else ""
    return ", ".join(filter(None, (f"{k} of {n} needed", trying, alone)))


def _machine(address: str) -> str:
    """Return an address, or the same word for all those of the machine that asks."""
    ip = ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    with socket.socket(socket.AF_INET if ip.version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as way:
        try:
            way.connect((str(ip), _NO_MATTER))  # sends nothing
        except OSError:
            return str(ip)
        own = ip.is_loopback or way.getsockname()[0] == str(ip)
    return "this one" if own else str(ip)


def _reach(common: Common, url: str) -> str:
    client = HttpClient(url, host_credential(common.config.trust), timeout_s=REACH_S)
    try:
        told = client.request("GET", "/").header("date")
    finally:
        client.close()
    apart_s = abs((parsedate_to_datetime(told) - common.clock.now()).total_seconds()) if told else 0.0
    if apart_s > MOST_APART_S:
        raise ValueError(
            f"its clock and ours are {apart_s:.0f} s apart; certificates and leases need the time"
        )
    return f"{urlsplit(url).hostname} answers"


def _metadata(common: Common, endpoint: str) -> str:
    credential = host_credential(common.config.trust)
    with closing(MetadataClient(endpoint, credential, timeout_s=REACH_S)) as server:
        return f"it answers, to {server.whoami()}"


def _plugins(common: Common) -> Iterator[Check]:
    try:
        hosts, unusable = load_usable(common)
    except MdmError as error:
        yield Check("plugins", passed=False, detail=error.message)
        return
    for name, why in unusable.items():
        yield Check(f"plugins.d/{name}.toml", passed=False, detail=why.message)
    with ExitStack() as leaving:
        for host in hosts.values():
            leaving.callback(host.close)
            yield from host.checks()
