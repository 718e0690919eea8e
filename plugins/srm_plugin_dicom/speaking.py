"""What the settings say of archives, as what they are spoken to with."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from srm_dicom.plugin.api import PluginContext
from srm_dicom.plugin.attending import Attending
from srm_plugin_dicom.accepting import UploadDesk
from srm_plugin_dicom.archive import Archive
from srm_plugin_dicom.association import Limits
from srm_plugin_dicom.getting import GetArchive
from srm_plugin_dicom.moves import MemoryBudget, MoveDesk
from srm_plugin_dicom.moving import MoveArchive
from srm_plugin_dicom.pacs import Pacs, PacsSettings
from srm_plugin_dicom.receiver import Attend, Peer, Receiver
from srm_plugin_dicom.sending import Sender
from srm_plugin_dicom.settings import NodeSettings, Settings
from srm_plugin_dicom.source_settings import AnySourceSettings, SourceSettings, WebSourceSettings
from srm_plugin_dicom.stores import Handler
from srm_plugin_dicom.web import WebArchive, WebSettings, read_headers


class Speaking:
    """Makes archives, desks and AEs of our own; they share one bound of memory.

    Attributes:
        desk: where the objects of moves are waited for.
    """

    def __init__(self, settings: Settings, context: PluginContext, budget: MemoryBudget) -> None:
        self._settings = settings
        self._context = context
        self._budget = budget
        self.desk = self._new_desk(context.attending)

    def archive(self, source: AnySourceSettings, listen: Callable[[], None]) -> Archive:
        """Return a source as what it is spoken to.

        Args:
            source: of the settings.
            listen: opens the AE for moves, if it is not open.
        """
        clock, title = self._context.clock, self._settings.moves.ae_title
        if isinstance(source, WebSourceSettings):
            return WebArchive(self._web(source), self._new_desk(), clock)
        pacs = Pacs(self._pacs(source), title)
        if source.retrieve == "get":
            return GetArchive(pacs, title, self._new_desk(), clock)
        return MoveArchive(
            pacs,
            title,
            senders=source.senders,
            destination=title,
            desk=self.desk,
            listen=listen,
            settle_s=self._settings.settle_s,
            clock=clock,
        )

    def uploads(self, archives: Mapping[str, Archive]) -> UploadDesk | None:
        """Return the way into the archive that the site names for uploads, if it names one."""
        source = self._settings.upload_source
        if source is None:
            return None
        return UploadDesk(
            archives[source.name],
            Sender(self._pacs(source), self._settings.moves.ae_title, self._context.clock),
            self._budget,
            self._context.clock,
            max_object_bytes=self._settings.max_object_bytes,
            upload_s=self._settings.upload_s,
        )

    def moves_receiver(self, peers: Sequence[Peer]) -> Receiver:
        """Return the AE that the desk's objects come to, started; raises as `receiver`."""
        return self.receiver(self._settings.moves, peers, self.desk, self.desk.attend)

    def receiver(
        self,
        node: NodeSettings,
        peers: Sequence[Peer],
        handler: Handler,
        attend: Attend | None = None,
    ) -> Receiver:
        """Return an AE of our own, started.

        Raises:
            ConfigError: its port cannot be had.
        """
        receiver = Receiver(
            node.ae_title,
            bind=node.bind,
            port=node.port,
            peers=peers,
            handler=handler,
            clock=self._context.clock,
            tls=node.tls.credential() if node.tls else None,
            limits=Limits(self._settings.max_associations, idle_s=self._settings.idle_s),
        )
        receiver.start(attend)
        return receiver

    def _new_desk(self, attending: Attending | None = None) -> MoveDesk:
        return MoveDesk(
            max_object_bytes=self._settings.max_object_bytes,
            budget=self._budget,
            spooling=self._context.spooling,
            attending=attending,
        )

    def _pacs(self, source: SourceSettings) -> PacsSettings:
        return PacsSettings(
            source.name,
            source.ae_title,
            source.host,
            source.port,
            self._settings.connect_s,
            self._settings.answer_s,
            source.tls.credential() if source.tls else None,
        )

    def _web(self, source: WebSourceSettings) -> WebSettings:
        return WebSettings(
            source.name,
            source.url,
            self._settings.connect_s,
            self._settings.answer_s,
            source.tls.credential() if source.tls else None,
            read_headers(Path(source.headers)) if source.headers else {},
        )
