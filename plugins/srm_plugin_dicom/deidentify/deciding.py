"""What is decided about an object as a whole: whether it leaves at all, and whose it is.

It depends on the header's facts alone (`facts.DECIDING`), and on codes of heads where a header is searched
for these; so objects that say the same there are decided about alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from srm_plugin_dicom.deidentify import facts as f
from srm_plugin_dicom.deidentify import values
from srm_plugin_dicom.deidentify.blank import Rectangle
from srm_plugin_dicom.deidentify.facts import Facts
from srm_plugin_dicom.deidentify.keyed import ProjectKey
from srm_plugin_dicom.deidentify.pixels import PixelPolicy, is_head_volume, searches_header
from srm_plugin_dicom.deidentify.profile import Profile
from srm_plugin_dicom.deidentify.reasons import Reason, refused
from srm_plugin_dicom.deidentify.walk import Patient


class Decisions:
    """Decides by one profile, project and policy."""

    def __init__(self, profile: Profile, key: ProjectKey, policy: PixelPolicy) -> None:
        self._profile = profile
        self._key = key
        self._policy = policy
        instance = profile.rules.get(f.SOP_INSTANCE)
        self._keeps_instances = instance is not None and instance.check == "kept"

    def admit(self, facts: Facts, names: Sequence[str] = ()) -> bool:
        """Tell whether an object leaves through the profile's transform, or by itself.

        Args:
            facts: its header.
            names: which object it has to be (see `is_named`).

        Raises:
            ObjectRefused: it may not leave.
        """
        sop_class = facts.raw(f.SOP_CLASS).decode("ascii", "replace")
        if not sop_class or not facts.raw(f.SOP_INSTANCE):
            raise refused(Reason.NO_IDENTITY)
        if not is_named(names, [facts.raw(tag) for tag in f.NAMES]):
            raise refused(Reason.ANOTHER)
        policy = self._policy
        volume = self._profile.transform is not None and is_head_volume(facts)
        if volume:
            policy = replace(policy, recognizable=True)  # it will not be, when it leaves
        policy.admit(sop_class, facts, self._profile.options)
        return volume

    def rectangles(self, facts: Facts) -> tuple[Rectangle, ...]:
        """Return what must be blanked of an object's frames."""
        return self._policy.rectangles(facts)

    def searches(self, facts: Facts) -> bool:
        """Tell whether it is decided by what stands anywhere in the header of such objects."""
        faces = self._profile.transform is not None or not self._policy.recognizable
        return faces and searches_header(facts)

    def patient(self, facts: Facts) -> Patient:
        """Return whose it is."""
        patient_id, issuer = facts.text(f.PATIENT_ID), facts.text(f.ISSUER)
        pseudonym = self._key.pseudonym(patient_id, issuer).encode("ascii")
        return Patient(pseudonym, self._key.shift_days(patient_id, issuer))

    def instance(self, original: bytes) -> bytes:
        """Return what an object with that UID is from now on."""
        return values.uids(original, self._key.uid, keep=self._keeps_instances)


def is_named(names: Sequence[str], own: Sequence[bytes]) -> bool:
    """Tell whether an object is the one that it has to be, whatever it came as.

    Args:
        names: what it was announced as and asked for; empty where nothing was said.
        own: what its data set says of the same attributes (`facts.NAMES`).
    """
    return all(
        not name or name.encode("ascii", "replace") == each for name, each in zip(names, own, strict=False)
    )
