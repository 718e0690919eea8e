"""What a session knows: its stage, its parameters, who is on the line. Verbs read and change this."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from srm_dicom.errors import InvalidRequest, NotFound
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import SitePath, parse_path
from srm_dicom.wire.gridftp.facts import ALL_FACTS
from srm_dicom.wire.gridftp.gsi import GsiAcceptor
from srm_dicom.wire.gridftp.ranges import Restart
from srm_dicom.wire.gridftp.replies import Reply

ROOT = SitePath("/")


class Stage(Enum):
    """How far a login has come."""

    GREETED = "greeted"
    TOKENS = "exchanging tokens"
    SECURED = "secured"
    NAMED = "named"
    OPEN = "logged in"
    CLOSED = "closed"


TRANSITIONS: dict[tuple[Stage, str], Stage] = {
    (Stage.GREETED, "mechanism chosen"): Stage.TOKENS,
    (Stage.TOKENS, "context complete"): Stage.SECURED,
    (Stage.SECURED, "user"): Stage.NAMED,
    (Stage.NAMED, "password"): Stage.OPEN,
}
"""The way of a login; `Dialogue.close` leads to CLOSED from every stage."""

SECURE = frozenset({Stage.SECURED, Stage.NAMED, Stage.OPEN})
LIVING = frozenset(Stage) - {Stage.CLOSED}


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one session: most streams of a transfer."""

    max_streams: int = 16


@dataclass(frozen=True, slots=True)
class Parameters:
    """What TYPE, MODE, DCAU, PROT and OPTS set; the defaults are those after a GSI login (GFD.020).

    Attributes:
        dcau: ``A``, the data peer must be the same user, ``S``, it must be `subject`, or ``N``, nobody
            is asked.
        protection: ``C`` clear, ``S``, ``E`` and ``P`` encrypted.
    """

    kind: str = "A"
    mode: str = "S"
    dcau: str = "A"
    subject: str = ""
    protection: str = "C"
    streams: int = 1
    facts: tuple[str, ...] = ALL_FACTS

    @property
    def private(self) -> bool:
        """Tell whether data are encrypted."""
        return self.dcau != "N" and self.protection != "C"

    @property
    def connection(self) -> tuple[str, str, str, str]:
        """What a data connection was opened under; another value means it cannot be used again."""
        return self.mode, self.dcau, self.subject, self.protection


@dataclass
class Dialogue:
    """The state of one control connection.

    Attributes:
        new_acceptor: makes the GSI acceptor when the client chooses the mechanism.
        admit: tells whether a name may have one more session.
        directory: the working directory.
        restart: what REST announced for the next transfer.
        expected_bytes: what ALLO announced for the next upload.
        epsv_only: the client has said EPSV ALL.
        renaming: what RNFR named for RNTO.
        refusal: why the login was refused, for the log.
    """

    new_acceptor: Callable[[], GsiAcceptor]
    limits: Limits = field(default_factory=Limits)
    admit: Callable[[str], bool] = lambda _name: True
    stage: Stage = Stage.GREETED
    acceptor: GsiAcceptor | None = None
    parameters: Parameters = field(default_factory=Parameters)
    directory: SitePath = ROOT
    restart: Restart = field(default_factory=Restart)
    expected_bytes: int | None = None
    epsv_only: bool = False
    renaming: SitePath | None = None
    refusal: str = ""

    def advance(self, event: str) -> None:
        """Follow `TRANSITIONS`; a verb's stages have seen to it that there is one."""
        self.stage = TRANSITIONS[self.stage, event]

    def close(self) -> None:
        """End the session after what has been answered."""
        self.stage = Stage.CLOSED

    @property
    def principal(self) -> Principal:
        """Who logged in; only asked for in secure stages."""
        if self.acceptor is None or self.acceptor.principal is None:
            raise InvalidRequest("nobody has logged in")
        return self.acceptor.principal

    def resolve(self, argument: str) -> SitePath:
        """Make a client's path absolute and normal.

        Raises:
            NotFound: the path leaves the tree or has characters that no name here has.
        """
        try:
            return self._path(argument)
        except InvalidRequest as error:
            raise NotFound("no such name") from error

    def name(self, argument: str) -> SitePath | Reply:
        """Make the path of a name that is to be absolute and normal.

        Of one that no name here can have the reply tells the rule, which reveals nothing.
        """
        try:
            return self._path(argument)
        except InvalidRequest as error:
            return Reply.of(553, error.message)

    def _path(self, argument: str) -> SitePath:
        return parse_path(argument if argument.startswith("/") else f"{self.directory}/{argument}")

    def take_restart(self) -> Restart:
        """Return what REST announced and forget it."""
        restart, self.restart = self.restart, Restart()
        return restart

    def take_expected(self) -> int | None:
        """Return what ALLO announced and forget it."""
        expected, self.expected_bytes = self.expected_bytes, None
        return expected
