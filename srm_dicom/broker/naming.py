"""A file that its plugin has for good gets its name, and its put ends."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from srm_dicom.broker.areas import Area, inherited
from srm_dicom.broker.names import forget
from srm_dicom.broker.spaces import FULL
from srm_dicom.broker.states import STORING, Event, after, before
from srm_dicom.clock import Clock, coarse
from srm_dicom.crypto.digest import Digest
from srm_dicom.crypto.manifest import Manifest
from srm_dicom.errors import Aborted, AlreadyExists, IsADirectory, NotADirectory, NotFound, SpaceExhausted
from srm_dicom.ids import parent
from srm_dicom.plugin.api import Discovered
from srm_dicom.store.namespace import Entry, Facts, Kind
from srm_dicom.store.requests import RequestFile
from srm_dicom.store.stores import Stores
from srm_dicom.store.uploads import Upload


@dataclass(frozen=True, slots=True)
class Kept:
    """A file that its plugin has, and that has no name yet."""

    file: RequestFile
    upload: Upload
    area: Area
    found: Discovered
    digest: Digest


@dataclass(frozen=True, slots=True)
class Naming:
    """Writes names; both methods join the caller's transaction."""

    stores: Stores
    signing_key: Ed25519PrivateKey
    clock: Clock

    def place(self, upload: Upload) -> Entry:
        """Return the directory that the file goes to, as it is now."""
        above = self.stores.namespace.find(parent(upload.path))
        if above is None:
            raise NotFound("the directory of the file is no more")
        if not above.is_directory:
            raise NotADirectory("the directory of the file is a file now")
        there = self.stores.namespace.find(upload.path)
        if there is not None and there.is_directory:
            raise IsADirectory("the name of the file is a directory's now")
        if there is not None and not upload.overwrite:
            raise AlreadyExists("the name of the file is another's now")
        return above

    def announce(self, kept: Kept) -> None:
        """Give the file its name and end the put; its worker has it in hand until it is ready to be read."""
        file, upload, area, digest = kept.file, kept.upload, kept.area, kept.digest
        above = self.place(upload)
        if not self.stores.requests.move([file.id], before(Event.STORE), after(STORING, Event.STORE)):
            raise Aborted("the put was ended while it was stored")
        entry = self._entry(upload, area, kept.found, above, self._facts(upload, area, digest))
        replaced = self.stores.namespace.replace_file(entry)
        if replaced is not None:
            self.stores.removals.add([replaced])
            forget(self.stores, [replaced])
        self.stores.uploads.end(upload.token, [upload.path], stored=True)
        if upload.space:  # as an upload it counts no longer
            self._stand(upload, digest.size_bytes)

    def _stand(self, upload: Upload, size_bytes: int) -> None:
        if not self.stores.spaces.has_room(upload.space, size_bytes):
            raise SpaceExhausted(FULL)
        self.stores.spaces.put(upload.guid, upload.space, size_bytes)

    def _entry(
        self,
        upload: Upload,
        area: Area,
        found: Discovered,
        above: Entry,
        facts: Facts,
    ) -> Entry:
        return Entry(
            path=upload.path,
            kind=Kind.FILE,
            owner=upload.owner,
            acl=inherited(above.acl, directory=False),
            shown_at=coarse(self.clock.now()),
            guid=upload.guid,
            release=area.release,
            facts=facts,
            plugin=area.plugin,
            plugin_ref=found.plugin_ref,
        )

    def _facts(self, upload: Upload, area: Area, digest: Digest) -> Facts:
        manifest = Manifest(
            guid=upload.guid,
            generation=1,
            size_bytes=digest.size_bytes,
            adler32=digest.adler32,
            blake3=digest.blake3,
            release=area.release,
            public_key=b"",
        )
        return Facts(digest.size_bytes, digest.adler32, manifest.sign(self.signing_key))
