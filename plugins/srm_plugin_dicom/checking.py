"""Lines of ``srm-dicom check``: what can be said of a source without looking at anybody's images."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable

from srm_dicom.errors import ConfigError, MdmError
from srm_dicom.plugin.api import Check
from srm_plugin_dicom.archive import Archive
from srm_plugin_dicom.settings import NodeSettings, Settings
from srm_plugin_dicom.source_settings import SourceSettings


def checked(name: str, probe: Callable[[], str]) -> Check:
    """Return the line of a probe, which returns what it saw or raises why it failed."""
    try:
        return Check(name, passed=True, detail=probe())
    except MdmError as error:
        return Check(name, passed=False, detail=" ".join(filter(None, (error.message, error.advice))))


def echo(archive: Archive) -> str:
    """Ask an archive whether it is there.

    Raises:
        MdmError: it is not, or not for us.
    """
    archive.echo()
    return "it answers"


def movers(settings: Settings) -> list[str]:
    """Return the hosts of the archives that send to our AE when they are asked by C-MOVE."""
    sources = [source for source in settings.sources if isinstance(source, SourceSettings)]
    return [source.host for source in sources if source.retrieve == "move"]


def reachable(node: NodeSettings, hosts: Iterable[str]) -> str:
    """See that archives on these hosts can send to an AE of ours at all.

    Raises:
        ConfigError: it listens where only this machine can send to.
    """
    if _is_here(node.bind) and not all(map(_is_here, hosts)):
        raise ConfigError(
            f"it listens on {node.bind}, where no other machine can send to",
            advice="Set `bind` to this machine's address in the hospital's network.",
        )
    return f"it listens on {node.bind}:{node.port}"


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
