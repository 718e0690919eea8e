"""What the ``glite-eds-*`` commands have in common: their options, their connections, how they end.

Scripts look for some words of the originals; those words are kept, in the output and in errors:
``Error during glite_eds_...`` of what uses keys, ``ERROR ...`` of what changes permissions.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from srm_dicom import telemetry
from srm_dicom.cli.exits import exit_code, of_the_disk, tell
from srm_dicom.client.keys import KeyServers
from srm_dicom.client.library import Client
from srm_dicom.client.site import SiteDescription
from srm_dicom.crypto.keyrecord import CIPHER, KEY_BYTES, check_key_id, issue
from srm_dicom.crypto.signing import trusting
from srm_dicom.errors import ConfigError, InvalidRequest, MdmError, NotFound
from srm_dicom.identity.credential import Credential
from srm_dicom.rights.acl import Acl
from srm_dicom.wire.hydra.contract import Permission

F = TypeVar("F", bound=Callable[..., Any])

OWNER = "user::pdrwlgs"
SIGNING_KEY = "MDM_SIGNING_KEY"
BARE = ("getacl", "setacl", "chmod")
"""Those that print their version and nothing else."""

NEEDS_FILES = ("lfn:", "guid:", "/")


@dataclass(frozen=True, slots=True)
class Eds:
    """One command's connections and how much it says.

    Attributes:
        loudness: ``verbose``, ``quiet`` or neither; the last option counts.
    """

    client: Client
    keys: KeyServers
    signing_key: Ed25519PrivateKey | None
    threshold: int
    loudness: str | None

    def say(self, text: str) -> None:
        """Print what is printed unless -q is given."""
        if self.loudness != "quiet":
            click.echo(text)

    def detail(self, text: str) -> None:
        """Print what is printed only with -v."""
        if self.loudness == "verbose":
            click.echo(text)

    def introduce(self) -> None:
        """Print, with -v, the key servers and their versions.

        Raises:
            SystemExit: one of them does not tell.
        """
        for url, told in self.keys.versions().items() if self.loudness == "verbose" else ():
            click.echo(f"# Using endpoint {url}")
            if isinstance(told, MdmError):
                tell(told, "ERROR Failed to determine the version of the service: HTTP error: ")
                raise SystemExit(exit_code(told))
            for name, version in zip(("service", "interface", "schema"), told, strict=True):
                click.echo(f"# - {name} version: {version}")

    def id_of(self, name: str) -> str:
        """Return the id that an argument stands for: of a file that of its key, by default its GUID.

        Raises:
            NotFound: there is no such file.
            InvalidRequest: it is the id of no key.
        """
        if name.startswith(NEEDS_FILES):
            record = self.client.files.lookup(name)
            return record.key_id or record.guid
        check_key_id(name)
        return name

    def permissions(self, name: str) -> dict[str, Permission | MdmError]:
        """Return a key's permissions as each key server tells them, by endpoint.

        Raises:
            MdmError: none of them tells.
        """
        told = self.keys.permissions(self.id_of(name))
        errors = [answer for answer in told.values() if isinstance(answer, MdmError)]
        if len(errors) == len(told):
            raise type(errors[0])(
                f"Missing permission for {name}: {errors[0].message}", advice=errors[0].advice
            )
        return told

    def register(self, key_id: str, until: datetime) -> bytes:
        """Make a key pair, register it under an id, and return its public half.

        Raises:
            ConfigError: there is no signing key here.
            InvalidRequest: there can be no such id.
            MdmError: the key servers do not take it; none of them has it then.
        """
        check_key_id(key_id)
        if self.signing_key is None:
            raise ConfigError(
                "registering takes a signing key that the key servers know",
                advice=f"Set {SIGNING_KEY} to a file with its 32 bytes.",
            )
        private = X25519PrivateKey.generate()
        records = issue(
            private.private_bytes_raw(),
            k=self.threshold,
            n=len(self.keys.endpoints),
            valid_until=until,
            signing_key=self.signing_key,
            random_bytes=secrets.token_bytes,
            key_id=key_id,
        )
        self.keys.register(records, Acl.parse(OWNER))
        self.detail(f"{CIPHER}, {self.threshold} of {len(records)} shares")
        return private.public_key().public_bytes_raw()

    def unregister(self, key_id: str) -> None:
        """Remove a key.

        Raises:
            NotFound: no key server has it.
            MdmError: a key server does not remove it.
        """
        if not self.keys.remove(key_id):
            raise NotFound("the key could not be found on any key server")


@contextmanager
def connected(*, loudness: str | None = None, services: tuple[str, ...] = ()) -> Iterator[Eds]:
    """Open the site of the environment."""
    with telemetry.aside():
        yield from _connected(loudness, services)


def _connected(loudness: str | None, services: tuple[str, ...]) -> Iterator[Eds]:
    site = SiteDescription.from_environment(os.environ)
    credential = Credential.from_environment(os.environ)
    signing_key = _signing_key()
    sites = site.trusted_signers() | (trusting(signing_key.public_key()) if signing_key else {})
    endpoints = services or site.keys
    keys = KeyServers(endpoints, credential, sites=sites)
    try:
        with Client(site, credential) as client:
            yield Eds(client, keys, signing_key, threshold_of(len(endpoints)), loudness)
    finally:
        keys.close()


@contextmanager
def ending(head: str) -> Iterator[None]:
    """End the command with a line that begins so when something fails.

    Raises:
        SystemExit: it failed.
    """
    try:
        yield
    except (MdmError, OSError) as error:
        told = error if isinstance(error, MdmError) else of_the_disk(error)
        tell(told, head)
        raise SystemExit(exit_code(told)) from error


def during(step: str) -> AbstractContextManager[None]:
    """End the command with the name of the step that fails."""
    return ending(f"Error during {step}: ")


class Failures(list[MdmError]):
    """What failed of several things that do not depend on each other."""

    @contextmanager
    def told(self, *heads: str) -> Iterator[None]:
        """Tell what fails, in a line for each head, and go on."""
        try:
            yield
        except MdmError as error:
            for head in heads:
                tell(error, head)
            self.append(error)

    def end(self) -> None:
        """End the command.

        Raises:
            SystemExit: something failed.
        """
        if self:
            raise SystemExit(exit_code(self[0]))


def threshold_of(n: int) -> int:
    """Return how many of n shares give a key by the rule of gLite: floor(log2 n) + 1, at most n."""
    return min(n, n.bit_length())


def _signing_key() -> Ed25519PrivateKey | None:
    path = os.environ.get(SIGNING_KEY)
    if not path:
        return None
    try:
        return Ed25519PrivateKey.from_private_bytes(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is no signing key of 32 bytes") from error


# --- options -------------------------------------------------------------------------------------


def common(command: F) -> F:
    """Give a command the options that all of them have."""
    return _with(
        command,
        click.option("-h", "--help", is_flag=True, is_eager=True, callback=_help, expose_value=False),
        click.option("-V", "--version", is_flag=True, is_eager=True, callback=_version, expose_value=False),
        click.option("-v", "--verbose", "loudness", flag_value="verbose", help="Tell what is done."),
        click.option("-q", "--quiet", "loudness", flag_value="quiet", help="Print errors only."),
        click.option("-s", "--service", "services", metavar="URL", multiple=True, help="Key servers to ask."),
    )


def of_cipher(command: F) -> F:
    """Give a command the options that name the one cipher that there is."""
    return _with(
        command,
        click.option("-c", "--cipher", default=CIPHER, help=f"Has to be {CIPHER}."),
        click.option(
            "-k", "--keysize", type=int, default=KEY_BYTES * 8, help=f"Has to be {KEY_BYTES * 8} bits."
        ),
    )


def check_cipher(cipher: str, keysize: int) -> None:
    """Refuse any other cipher.

    Raises:
        InvalidRequest: it is another one.
    """
    if (cipher, keysize) != (CIPHER, KEY_BYTES * 8):
        raise InvalidRequest(f"the one cipher is {CIPHER} with {KEY_BYTES * 8} bits")


def _with(command: F, *options: Callable[[F], F]) -> F:
    for option in reversed(options):
        command = option(command)
    return command


def _help(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(context.get_help())
        context.exit()


def _version(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if wanted:
        number, name = metadata.version("srm-dicom"), context.command.name
        click.echo(number if name in BARE else f"<glite-eds-{name}> Version {number} by srm-dicom")
        context.exit()
