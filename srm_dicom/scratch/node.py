"""Where sealed slots go: the scratch area of a node, in this machine's directory or across the network.

The inner zone knows no more of a node than this. It can begin a file, say what a group of files is called,
and fetch what a user has uploaded; it cannot list any or remove what is ready: that belongs to the node's
own side.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from srm_dicom.scratch.area import StagedName


class Incoming(Protocol):
    """A file being written; nobody is served it before it is published."""

    @property
    def id(self) -> str:
        """What `ScratchNode.publish` is told; known once the file is finished."""
        ...

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        """Append bytes.

        Raises:
            NoSpace: the node is full.
            Overloaded: the node does not answer; another visit may find it again.
        """
        ...

    def finish(self) -> None:
        """Say that every byte is written.

        Raises:
            NoSpace, Overloaded: as `write`.
        """
        ...

    def discard(self) -> None:
        """Drop the file; never fails, because what remains is swept."""
        ...


class ScratchNode(Protocol):
    """A node that takes files."""

    def begin(self) -> Incoming:
        """Open a new file.

        Raises:
            NoSpace, Overloaded: as `Incoming.write`.
        """
        ...

    def publish(self, files: Sequence[tuple[StagedName, str]], /) -> None:
        """Make finished files durable together, under their names; a file of the same name is replaced.

        When this fails nothing may be announced: the files are dropped, now or by the next sweep.

        Args:
            files: names, each with the `Incoming.id` of its bytes; no name and no id twice.

        Raises:
            NoSpace: as `Incoming.write`.
            Overloaded: the node does not answer, or has a file no longer.
        """
        ...

    def read(self, file_id: str, offset: int, size_bytes: int, /) -> bytes:
        """Return bytes of a file that is not ready, fewer at its end; how uploads are fetched.

        Raises:
            Overloaded: the node does not answer, or has no such file.
        """
        ...
