"""What a file is called outside: keyed names that say nothing, and which header values may be searched.

Names derive from the project's key alone, as UIDs inside the files do. A GUID also derives from the
profile and its version: another release of an object is another file.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from functools import lru_cache

from srm_dicom.ids import Guid
from srm_dicom.rights.project import Release
from srm_plugin_dicom.deidentify import tables
from srm_plugin_dicom.deidentify.keyed import ProjectKey, bare

SUFFIX = ".dcm.c4gh"
_WORDS = {
    "Modality": "code",
    "BodyPartExamined": "code",
    "Laterality": "code",
    "PatientPosition": "code",
    "PhotometricInterpretation": "code",
    "Manufacturer": "manufacturer",
    "ManufacturerModelName": "model",
    "ConvolutionKernel": "kernel",
    "SequenceName": "sequence",
}
_INTEGERS = ("Rows", "Columns", "NumberOfFrames", "InstanceNumber", "SeriesNumber", "BitsStored")
_DECIMALS = (
    *("SliceThickness", "SpacingBetweenSlices", "KVP", "EchoTime", "RepetitionTime", "FlipAngle"),
    *("MagneticFieldStrength",),
)
_NOMINATIVE = (
    *("PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "StudyDate"),
    *("AccessionNumber", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"),
)
_SPACING = re.compile(r"[0-9.eE+-]{1,16}(?:\\[0-9.eE+-]{1,16})?")
_MOST_CHARS = 1024
"""No value that identifies has more (PS3.5, 6.2), and a metadata server takes four times as many."""


class Names:
    """The names of one project's objects in one release."""

    def __init__(self, project_key: bytes, release: Release) -> None:
        self._key = ProjectKey(project_key)
        self._release = str(release).encode("utf-8")
        self.group = lru_cache(maxsize=64)(self._group)

    def guid(self, sop_uid: str) -> Guid:
        """Return the identity of the file that an object becomes in this release."""
        return Guid(str(uuid.UUID(int=self._key.guid(self._release, bare(sop_uid)))))

    def components(
        self, patient_id: str, issuer: str, study_uid: str, series_uid: str, sop_uid: str
    ) -> tuple[str, str, str, str]:
        """Return the path below the release: patient, study, series, instance."""
        return (
            self.patient(patient_id, issuer),
            self._key.short("study", bare(study_uid)),
            self._key.short("series", bare(series_uid)),
            self._key.short("instance", bare(sop_uid)) + SUFFIX,
        )

    def patient(self, patient_id: str, issuer: str) -> str:
        """Return the first of these components, the patient's pseudonym in the project."""
        return self._key.pseudonym(patient_id, issuer)

    def _group(self, series_uid: str) -> str:
        """Return the name of a series; its files share one key pair, and one after the other asks."""
        return self._key.short("series", bare(series_uid))

    def attributes(self, header: Mapping[str, str]) -> dict[str, str | int | float]:
        """Return what may be searched by anybody with the metadata right, by DICOM keyword.

        The same proofs as in the files decide: a public word, or a number.
        """
        found: dict[str, str | int | float] = {}
        for keyword, kind in _WORDS.items():
            text = header.get(keyword, "").strip()
            if text.encode("utf-8") in tables.words(kind):
                found[keyword] = text
        for keyword in (*_INTEGERS, *_DECIMALS):
            number = _number(header.get(keyword, ""))
            if number is not None:
                found[keyword] = int(number) if keyword in _INTEGERS else number
        spacing = header.get("PixelSpacing", "").strip()
        if _SPACING.fullmatch(spacing):
            found["PixelSpacing"] = spacing
        sop_class = header.get("SOPClassUID", "").strip()
        if sop_class.encode("utf-8") in tables.registered_uids():
            found["SOPClassUID"] = sop_class
        return found

    def nominative(self, header: Mapping[str, str]) -> dict[str, str]:
        """Return what identifies, for the nominative group of the metadata servers and nothing else."""
        return {each: header[each] for each in _NOMINATIVE if 0 < len(header.get(each, "")) <= _MOST_CHARS}


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    if value != value or abs(value) > 1e9:  # noqa: PLR0124 - NaN is the number that is not itself
        return None
    return value
