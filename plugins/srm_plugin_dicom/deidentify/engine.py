"""De-identifies one object, or a series through a transform: drafts what may leave, and has it checked.

The bytes that leave depend on the object, the project's key and the profile alone. They come as parts
in order; pixel data are views of the input, never copies. No part is given out before the independent
check of all of them has passed; but for objects that are too large for memory (`view`): the pixels of these
are made and checked as they are taken, and whoever takes them throws all of them away when that fails.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain
from operator import attrgetter

from srm_dicom.rights.project import Release
from srm_plugin_dicom.deidentify import bits, part10, series
from srm_plugin_dicom.deidentify.bulk import passing
from srm_plugin_dicom.deidentify.checker import Checker
from srm_plugin_dicom.deidentify.draft import Draft, Held
from srm_plugin_dicom.deidentify.drafter import Drafter
from srm_plugin_dicom.deidentify.elements import Buffer, Limits
from srm_plugin_dicom.deidentify.keyed import ProjectKey
from srm_plugin_dicom.deidentify.pixels import PixelPolicy, TextDetector
from srm_plugin_dicom.deidentify.profile import SiteProfile, profile
from srm_plugin_dicom.deidentify.reasons import Reason, refused
from srm_plugin_dicom.deidentify.report import Report
from srm_plugin_dicom.deidentify.series import Image, Received
from srm_plugin_dicom.deidentify.syntax import LITTLE
from srm_plugin_dicom.deidentify.view import Part, View, WholeNeeded, pieces


@dataclass(frozen=True)
class Context:
    """What an object is de-identified for.

    Attributes:
        project_key: what UIDs, pseudonyms and date shifts of the project derive from.
        release: names the profile and its version.
        policy: what the site states about pixels.
        site_profiles: the site's own profiles, which the release may name.
    """

    project_key: bytes = field(repr=False)
    release: Release
    policy: PixelPolicy = field(default_factory=PixelPolicy)
    site_profiles: tuple[SiteProfile, ...] = ()
    limits: Limits = field(default_factory=Limits)


@dataclass(frozen=True, slots=True)
class Output:
    """An object that may leave: a Part 10 file in parts; valid as long as the input is not changed.

    The parts of an object that is too large for memory can be taken once, and may end in `ObjectRefused`.
    """

    parts: Iterable[Part]
    report: Report

    def __iter__(self) -> Iterator[Held]:
        return chain.from_iterable(map(pieces, self.parts))

    def __bytes__(self) -> bytes:
        return b"".join(self)


def deidentify(data: Buffer, transfer_syntax: str, sop_class: str, context: Context) -> Output:
    """De-identify one object.

    Args:
        data: a Part 10 file, or a data set as it came over the network.
        transfer_syntax: of a bare data set; ignored for a file.
        sop_class: what the object was announced as; empty if it was not.
        context: project, profile and policy.

    Raises:
        ObjectRefused: it could not be proven free of identity; the message is a class of reason.
        SeriesNeeded: it leaves only with its series (see `Deidentifier.deidentify_series`).
        NotSupported: the release names a profile or version that this program does not have.
    """
    return deidentifier(context).deidentify(data, transfer_syntax, sop_class)


@lru_cache(maxsize=32)
def deidentifier(context: Context) -> Deidentifier:
    """Return the de-identifier of a context; what it has learnt serves all objects of the context."""
    return Deidentifier(context)


class Deidentifier:
    """De-identifies objects of one context, from any thread."""

    def __init__(self, context: Context) -> None:
        self._profile = profile(context.release.profile, context.release.version, context.site_profiles)
        key = ProjectKey(context.project_key)
        self._drafter = Drafter(self._profile, key, context.policy, context.limits)
        self._checker = Checker(self._profile)
        self._detector = context.policy.detector

    def deidentify(self, data: Buffer | View, transfer_syntax: str = "", *names: str) -> Output:
        """De-identify one object (see the function of this name).

        Args:
            data: the object.
            transfer_syntax: of a bare data set.
            names: which object it has to be, as in `Received`.

        Raises:
            WholeNeeded: what lies elsewhere has to be in memory.
        """
        return self._checked(self._drafter.draft(Received(data, transfer_syntax, *names)))

    def deidentify_series(self, received: Sequence[Received]) -> list[Output]:
        """De-identify the objects of a series that may show a face, through the profile's transform.

        Args:
            received: all of them, since what leaves of one depends on the others; where they are writable
                and native, their pixels are changed where they are.

        Returns:
            What may leave of each, in the same order.

        Raises:
            ObjectRefused: one of them could not be proven, or the transform could not clean them.
        """
        drafts = [self._drafter.draft(each, in_series=True) for each in received]
        images = [self._image(draft) for draft in drafts]
        assert self._profile.transform is not None  # noqa: S101 - else a draft was refused
        series.cleaned(sorted(images, key=attrgetter("header")), self._profile.transform)
        for draft, image in zip(drafts, images, strict=True):
            bits.check(image.pixels, draft.facts)
            header, *_, filler = draft.parts[1:]
            draft.parts[1:] = [header, image.pixels, filler]
        return [self._checked(draft) for draft in drafts]

    def _checked(self, draft: Draft) -> Output:
        """Return a draft as a file, after the independent check."""
        head, *bulk = draft.parts
        self._checker.check(bytes(head), bulk, draft.syntax.uid, draft.original, draft.source.uid)
        report = Report(draft.options, self._profile, draft.seen, draft.removed)
        file = self._file(draft)
        if draft.pixels is not None:
            if self._detector is not None:
                raise WholeNeeded
            return Output(chain(file, passing(draft.pixels, draft.syntax.uid)), report)
        if self._detector is not None:
            self._look(file, self._detector)
        return Output(file, report)

    def _image(self, draft: Draft) -> Image:
        """Return what a transform gets: native pixels in one writable buffer, without a filler byte."""
        if draft.syntax.codec is not LITTLE or len(draft.parts) < 3:
            raise refused(Reason.RECOGNIZABLE, "no native pixels")
        pixels = [part for part in draft.parts[2:-1] if len(part)]
        whole = pixels[0] if len(pixels) == 1 else b""
        if not isinstance(whole, memoryview) or whole.readonly:
            whole = memoryview(bytearray(b"".join(pixels)))
        return Image(b"".join(self._file(draft._replace(parts=draft.parts[:1]))), whole)

    def _file(self, draft: Draft) -> list[Held]:
        meta = part10.file_meta(draft.sop_class, draft.instance, draft.syntax, self._profile)
        return [meta, *(part10.stored(draft.parts) if draft.syntax.deflated else draft.parts)]

    def _look(self, file: Sequence[Held], detector: TextDetector) -> None:
        if len(file) > 2 and detector.shows_text(b"".join(file)):
            raise refused(Reason.BURNED_IN, "detector")
