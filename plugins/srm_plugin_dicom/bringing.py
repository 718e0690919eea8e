"""What one batch asks of an archive, and where each image goes that comes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from srm_dicom.errors import MdmError, TooLarge
from srm_dicom.plugin.api import FileRef, Sink
from srm_dicom.plugin.attending import Brought, Commission
from srm_plugin_dicom.archive import Wanted
from srm_plugin_dicom.deidentify.reasons import Reason
from srm_plugin_dicom.deidentify.series import Received
from srm_plugin_dicom.delivery import Delivery
from srm_plugin_dicom.moves import ArrivedObject, ByWorkers
from srm_plugin_dicom.reference import ObjectRef
from srm_plugin_dicom.stores import ObjectInfo


@dataclass(frozen=True, slots=True)
class Bringing:
    """One batch.

    Attributes:
        files: by SOP instance; all are of one study.
        sink: opens their slots.
        delivery: fills these.
        in_series: whether they leave only with their series, and none can be made by itself.
    """

    files: Mapping[str, tuple[ObjectRef, FileRef]]
    sink: Sink
    delivery: Delivery
    in_series: bool

    @property
    def first(self) -> ObjectRef:
        """One of them."""
        return next(iter(self.files.values()))[0]

    def wanted(self) -> list[Wanted]:
        """Return them by their series."""
        series: dict[str, list[str]] = {}
        for ref, _ in self.files.values():
            series.setdefault(ref.series, []).append(ref.instance)
        study, by_workers = self.first.study, ByWorkers(self.commission, self.keep)
        return [
            Wanted(
                study,
                uid,
                tuple(instances),
                is_wanted=self.sink.is_wanted,
                by_workers=by_workers,
                not_held=self.not_held,
            )
            for uid, instances in series.items()
        ]

    def deliver(self, info: ObjectInfo, data: ArrivedObject) -> None:
        """Take an object, one too that nobody asked for: it may belong to the series of those that were."""
        ref, file = self.files.get(info.sop_instance, (self.first, None))
        names = (info.sop_class, info.sop_instance, ref.series, ref.study)
        received = Received(data, info.transfer_syntax, *names)
        self.delivery.deliver(received, self.sink.open(file) if file else None)

    def not_held(self, instance: str, error: MdmError) -> bool:
        """Refuse what is too large to be held, wherever it comes from; without it no series is whole."""
        if self.in_series or not isinstance(error, TooLarge):
            return False
        _, file = self.files[instance]
        self.sink.open(file).refuse(Reason.TOO_LARGE.value)
        return True

    def commission(self, instance: str) -> Commission | None:
        """Tell a worker what to make of an instance where that arrives."""
        if self.in_series or instance not in self.files:
            return None
        ref, file = self.files[instance]
        making = self.delivery.making
        return Commission(instance, (ref.series, ref.study), making, file.guid, file.public_key)

    def keep(self, info: ObjectInfo, brought: Brought) -> None:
        """Take what a worker has made."""
        _, file = self.files[info.sop_instance]
        self.delivery.keep(info.sop_instance, brought, self.sink.open(file))
