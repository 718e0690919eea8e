"""The one place that imports spyne, after making spyne 2.14.0 importable on Python 3.12 and newer.

It ships a copy of six 1.14 whose importer knows the finder protocol that Python 3.12 dropped; the real six
stands in for it. (``cgi``, gone in 3.13, comes from the distribution legacy-cgi.) Everybody takes the names
below from here. spyne's own logs quote what callers typed, so they are silenced.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import logging
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType

_VENDORED = "spyne.util.six.moves"


class _SixMoves(MetaPathFinder, Loader):
    """Finds the modules of spyne's six in the real one."""

    def find_spec(
        self, fullname: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == _VENDORED or fullname.startswith(_VENDORED + "."):
            return importlib.machinery.ModuleSpec(fullname, self, is_package=True)
        return None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return importlib.import_module(spec.name.removeprefix("spyne.util."))

    def exec_module(self, module: ModuleType) -> None:
        """Do nothing: the module was executed as part of six."""


if sys.version_info >= (3, 12):
    sys.meta_path.insert(0, _SixMoves())

_log = logging.getLogger("spyne")
_log.addHandler(logging.NullHandler())
_log.propagate = False
_log.setLevel(logging.CRITICAL + 1)

from spyne import (  # noqa: E402 - after the finder
    AnyUri,
    Application,
    Boolean,
    ComplexModel,
    DateTime,
    Fault,
    Integer,
    Integer32,
    MethodContext,
    Service,
    Unicode,
    UnsignedLong,
    rpc,
)
from spyne.model.complex import ComplexModelMeta  # noqa: E402
from spyne.protocol.soap import Soap11  # noqa: E402
from spyne.server import ServerBase  # noqa: E402
from spyne.service import ServiceMeta  # noqa: E402

__all__ = [
    "AnyUri",
    "Application",
    "Boolean",
    "ComplexModel",
    "ComplexModelMeta",
    "DateTime",
    "Fault",
    "Integer",
    "Integer32",
    "MethodContext",
    "ServerBase",
    "Service",
    "ServiceMeta",
    "Soap11",
    "Unicode",
    "UnsignedLong",
    "rpc",
]
