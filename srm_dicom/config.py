"""Configuration: TOML files read into frozen structs; a key that nobody knows is refused.

``srm-dicom.toml`` is the site, ``plugins.d/*.toml`` the storage plugins (read by the inner zone only),
``projects.d/*.toml`` what data may leave for. Relative paths are relative to the file that has them.
Sizes are bytes, times are seconds, and every name says its unit.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from srm_dicom import tomlfile


class Struct(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every table of the configuration."""


InPaths = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._-]{1,200}\Z")]
"""A word that stands in paths."""


class Site(Struct, frozen=True, kw_only=True):
    """Who this is: `name` stands in every path, `host` in every SURL and TURL."""

    name: InPaths
    vo: InPaths
    host: str
    aliases: tuple[str, ...] = ()


class Trust(Struct, frozen=True, kw_only=True):
    """Whom the doors believe, and this host's own certificate.

    Attributes:
        emergency_role: FQAN of whom may break the glass; left out, nobody may.
        tls: what TLS is made with; ``m2crypto`` is an extra.
    """

    certificates: Path = Path("/etc/grid-security/certificates")
    vomsdir: Path = Path("/etc/grid-security/vomsdir")
    host_certificate: Path = Path("/etc/grid-security/hostcert.pem")
    host_key: Path = Path("/etc/grid-security/hostkey.pem")
    crl: Literal["require", "if-present"] = "require"
    ban_file: Path | None = None
    admission_file: Path | None = None
    voms_on_bad_ac: Literal["drop", "refuse"] = "drop"
    emergency_role: str | None = None
    tls: Literal["ssl", "m2crypto"] = "ssl"


class Listen(Struct, frozen=True, kw_only=True):
    """A listening socket; port 0 takes any free one."""

    host: str = "0.0.0.0"  # noqa: S104 - a server's default is to serve
    port: int


class Scratch(Struct, frozen=True, kw_only=True):
    """The outer zone's ciphertext; see `broker.janitor`."""

    directory: Path
    high_bytes: int = 200 * 1024**3
    low_bytes: int = 160 * 1024**3
    quota_bytes: int = 0
    spare_bytes: int = 1024**3
    sealed_uploads: int = 1000
    sealed_upload_bytes: int = 64 * 1024**3


class Requests(Struct, frozen=True, kw_only=True):
    """Bounds of requests; see `broker.broker`."""

    max_files: int = 10_000
    max_total_s: int = 24 * 3600
    default_total_s: int = 3600
    default_put_s: int = 4 * 3600
    reservable_bytes: int = 100 * 1024**3
    max_pin_s: int = 7 * 24 * 3600
    default_pin_s: int = 12 * 3600
    retention_s: int = 30 * 24 * 3600


class Connections(Struct, frozen=True, kw_only=True):
    """How many connections each door has open at a time, and how many of them others leave to one.

    Attributes:
        at_once: of one door, in all; of those who have not authenticated themselves the oldest makes room.
        per_address: of them from one address.
        per_identity: of them of one caller; a service such as FTS comes under one name for all of its users.
    """

    at_once: Annotated[int, msgspec.Meta(ge=1)] = 2000
    per_address: Annotated[int, msgspec.Meta(ge=1)] = 1500
    per_identity: Annotated[int, msgspec.Meta(ge=1)] = 1500


class GridFtp(Struct, frozen=True, kw_only=True):
    """The GridFTP door."""

    listen: Listen = Listen(port=2811)
    data_ports: tuple[int, int] = (20000, 20199)
    data_host: str | None = None
    mode_e_active: bool = True
    third_party: tuple[str, ...] = ()
    third_party_public: bool = True


class Issuer(Struct, frozen=True, kw_only=True):
    """One whose bearer tokens are taken; see `identity.tokens.Issuer`.

    Attributes:
        url: the `iss` of its tokens, to the letter.
        audiences: names of this site in its tokens; one has to be there.
        organisation: its groups are those of this organisation and below; empty takes no groups.
        keys: file with its key set (JWKS), or https URL of it; left out, its `.well-known` document says.
        base_path: the directory that `/` means in its scopes.
    """

    url: str
    audiences: tuple[str, ...]
    organisation: str = ""
    keys: str | None = None
    base_path: str = "/"


class Tokens(Struct, frozen=True, kw_only=True):
    """Bearer tokens of the WLCG profile, beside a certificate or instead of one.

    Attributes:
        issuers: by whom.
        map_file: lines of `"token:<issuer>#<subject>" "/DC=.../CN=..."`: the certificate name that counts; a
            ban may say either.
        skew_s: by how much clocks may differ; 300 at most.
        lifetime_s: for how long a token may have been made.
    """

    issuers: tuple[Issuer, ...]
    map_file: Path | None = None
    skew_s: float = 60.0
    lifetime_s: float = 24 * 3600.0


class WebDav(Struct, frozen=True, kw_only=True):
    """The HTTPS/WebDAV door.

    Attributes:
        tokens: whose bearer tokens it takes; left out, it asks everybody for a certificate.
        staging_s: for how long a GET waits for a file that is not staged, at most.
    """

    listen: Listen = Listen(port=8443)
    tokens: Tokens | None = None
    staging_s: float = 60.0


class Copies(Struct, frozen=True, kw_only=True):
    """Third-party copies; see `transfer.hosts`. Without hosts there are none.

    Attributes:
        hosts: by VO (`*` is everybody's): names, or `*.example.org` for all below a domain.
        networks: that may be connected to although they are not public, such as `192.0.2.0/24`.
        never: networks that may not, whatever else is said: where archives are.
        at_once: copies that run at the same time.
    """

    hosts: dict[str, tuple[str, ...]] = {}
    networks: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    at_once: int = 20


class Stripes(Struct, frozen=True, kw_only=True):
    """Several transfer nodes over one scratch directory; see `transfer.stripes` and `transfer.stripenode`.

    Attributes:
        listen: where the role `stripe` waits for doors.
        doors: names of the host certificates of the doors that may ask it.
        nodes: `host:port` of every node that the GridFTP door shares its transfers with.
    """

    listen: Listen = Listen(port=2812)
    doors: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()


class Intake(Struct, frozen=True, kw_only=True):
    """Where a node takes files from stagers of another machine or user; see `transfer.intake`.

    Attributes:
        stagers: names of the host certificates that may push.
        max_file_bytes: of one sealed file.
    """

    listen: Listen = Listen(port=8445)
    stagers: tuple[str, ...]
    max_file_bytes: int = 9 * 1024**3


class Area(Struct, frozen=True, kw_only=True):
    """A directory of the namespace where users write; see `broker.areas`.

    Attributes:
        path: of the directory; no area is below another.
        project: whose members may read (right `file`) and write (right `write`, or `ingest` if it is sealed).
        plugin: the instance of ``plugins.d`` that keeps the files; its `sealed` is the area's.
        max_file_bytes: of one file.
        sealed: what is uploaded identifies patients; see `scratch.sealeduploads`.
    """

    path: str
    project: str
    plugin: str
    version: str = "v1"
    max_file_bytes: int = 1024**4
    sealed: bool = False


class Inner(Struct, frozen=True, kw_only=True):
    """The inner zone: its secrets, its database and its spool; unreadable for the outer zone.

    Attributes:
        node: ``https://host:port`` of the node's intake; empty when the stager writes into
            ``scratch.directory`` itself.
        workers: processes in which the stager has images de-identified and sealed; 0 does all of it in the
            stager. Left out, it is one for each core, up to eight, and none where there is one core.
    """

    secrets: Path
    database: str
    spool: Path
    plugins: Path
    node: str = ""
    visits: int = 8
    visit_s: float = 600.0
    workers: Annotated[int, msgspec.Meta(ge=0, le=64)] | None = None
    spool_above_bytes: int = 16 * 1024 * 1024
    max_object_bytes: int = 8 * 1024**3


class Registrar(Struct, frozen=True, kw_only=True):
    """How a file comes to be.

    Attributes:
        settle_s: how long a series must be quiet before it is registered.
        publish_s: what has settled appears together, once in so long: when a file appears must not tell
            when its patient was examined.
        level: register from headers alone, or stage once so that size and checksum are known.
    """

    settle_s: float = 60.0
    publish_s: float = 3600.0
    level: Literal["index", "full"] = "index"
    batch: int = 500


class Catalogues(Struct, frozen=True, kw_only=True):
    """Where the catalogues are: URLs of the key servers and how many of them a key needs, and so on.

    Attributes:
        one_machine: let key servers share a machine, for trying out: `srm-dicom check` fails otherwise.
    """

    keys: tuple[str, ...]
    threshold: int = 2
    one_machine: bool = False
    files: str
    metadata: tuple[str, ...]


class Budget(Struct, frozen=True, kw_only=True):
    """What may leave in a day (UTC); 0 sets no bound. See `rights.budget`."""

    bytes: int = 0
    objects: int = 0


class Budgets(Struct, frozen=True, kw_only=True):
    """Daily budget of every single caller, and the share of a budget at which an alarm goes off."""

    caller: Budget = Budget()
    alarm_at: float = 0.8


class Config(Struct, frozen=True, kw_only=True):
    """``srm-dicom.toml``."""

    site: Site
    trust: Trust = Trust()
    database: str
    audit: Path
    metrics: Path | None = None
    scratch: Scratch
    projects: Path
    requests: Requests = Requests()
    connections: Connections = Connections()
    srm: Listen = Listen(port=8446)
    gridftp: GridFtp = GridFtp()
    webdav: WebDav = WebDav()
    stripes: Stripes = Stripes()
    copies: Copies = Copies()
    intake: Intake | None = None
    areas: tuple[Area, ...] = ()
    inner: Inner | None = None
    registrar: Registrar = Registrar()
    budgets: Budgets = Budgets()
    catalogues: Catalogues


class Member(Struct, frozen=True, kw_only=True):
    """One grant of a project: `user` (a DN) or `group` (an FQAN), and the rights."""

    user: str = ""
    group: str = ""
    rights: tuple[Literal["file", "key", "search", "nominative", "write", "ingest"], ...]

    def __post_init__(self) -> None:
        """Refuse what names nobody, or two.

        Raises:
            ValueError: it does.
        """
        if bool(self.user) == bool(self.group):
            raise ValueError("a member is a user or a group")


class ProjectFile(Struct, frozen=True, kw_only=True):
    """``projects.d/<id>.toml``; see `rights.project.Project`."""

    id: InPaths
    permit: str
    purpose: str
    profile: str
    basis: str
    valid_until: datetime
    members: tuple[Member, ...] = ()
    jobs: bool = False
    daily: Budget = Budget()


class CatalogueFile(Struct, frozen=True, kw_only=True):
    """``catalog.d/<name>.toml``: one catalogue server, which may stand on a machine of its own.

    `server` is the settings of the server itself; the catalogue validates it.
    """

    role: Literal["keys", "files", "metadata"]
    trust: Trust = Trust()
    audit: Path
    metrics: Path | None = None
    server: dict[str, Any]


class PluginFile(Struct, frozen=True, kw_only=True):
    """``plugins.d/<name>.toml``: which plugin, for which projects, and its own settings."""

    plugin: str
    projects: tuple[str, ...]
    sealed: bool = True
    settings: dict[str, Any] = {}


def load(path: Path) -> Config:
    """Read ``srm-dicom.toml``.

    Raises:
        ConfigError: the file cannot be read or says something unknown; the message has the place.
    """
    return tomlfile.read(path, Config)
