"""Who else on the machine may read or change what a site stands on: a part of ``srm-dicom check``."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from srm_dicom.config import Config

_CHANGED_BY_ALL, _READ_BY_ALL, _READ_BY_OTHERS = 0o002, 0o006, 0o077


def look(path: Path, config: Config) -> str:
    """Look at the modes of the files that a configuration names, and of itself.

    Args:
        path: of the configuration.
        config: what it says.

    Raises:
        ValueError: somebody may do more with a file than is good; which one, and how to mend it.
    """
    for file in _deciding(path, config):
        _refuse(file, _CHANGED_BY_ALL, "can be changed by everybody", "chmod o-w")
    for file in _secret(path, config):
        _refuse(file, _READ_BY_ALL, "can be read by everybody", "chmod o-rw")
    for file in _inner(config):
        _refuse(file, _READ_BY_OTHERS, "can be read by others", "chmod go-rwx")
    return "nobody else changes what decides, or reads what is secret"


def _deciding(path: Path, config: Config) -> Iterator[Path]:
    """Yield what decides who may do what, where images come from and where they go."""
    trust = config.trust
    directories = [path.parent, config.projects, trust.certificates, trust.vomsdir, *_plugins(config)]
    yield path
    for directory in directories:
        yield directory
        yield from directory.glob("*.toml")
    yield from (file for file in (trust.ban_file, trust.admission_file) if file is not None)


def _plugins(config: Config) -> list[Path]:
    return [config.inner.plugins] if config.inner else []


def _secret(path: Path, config: Config) -> Iterator[Path]:
    yield config.trust.host_key
    databases = [config.database, *([config.inner.database] if config.inner else [])]
    if any(urlsplit(url).password for url in databases):
        yield path


def _inner(config: Config) -> Iterator[Path]:
    """Yield what the inner zone alone may read; the spool is made when the first stager starts."""
    if config.inner is not None:
        yield config.inner.spool
        yield config.inner.secrets
        yield from config.inner.secrets.rglob("*")


def _refuse(file: Path, bits: int, why: str, mend: str) -> None:
    try:
        mode = file.stat().st_mode
    except FileNotFoundError:
        return
    if stat.S_IMODE(mode) & bits and not mode & stat.S_ISVTX:
        raise ValueError(f"{file} {why}; {mend} {file}")
