"""De-identifies one object: opens it, decides whether it may leave, walks it, checks what was made.

The bytes that leave depend on the object, the project's key and the profile alone. They come as parts
in order; pixel data are views of the input, never copies. No part is given out before the independent
check of all of them has passed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from operator import attrgetter, itemgetter

from srm_dicom.rights.project import Release
from srm_plugin_dicom.deidentify import bits, blank, frames, part10, series, values
from srm_plugin_dicom.deidentify import facts as f
from srm_plugin_dicom.deidentify.checker import Checker
from srm_plugin_dicom.deidentify.elements import Buffer, Element, Limits, Reader
from srm_plugin_dicom.deidentify.facts import Facts
from srm_plugin_dicom.deidentify.keyed import ProjectKey
from srm_plugin_dicom.deidentify.options import BY_OPTION, Option
from srm_plugin_dicom.deidentify.pixels import PixelPolicy, is_head_volume
from srm_plugin_dicom.deidentify.profile import Profile, SiteProfile, profile
from srm_plugin_dicom.deidentify.reasons import Reason, refused
from srm_plugin_dicom.deidentify.report import Report
from srm_plugin_dicom.deidentify.series import Image, Received, SeriesNeeded
from srm_plugin_dicom.deidentify.syntax import EXPLICIT_LITTLE, ITEM, LITTLE, PIXEL_DATA, Syntax
from srm_plugin_dicom.deidentify.values import pad
from srm_plugin_dicom.deidentify.walk import Patient, Rules, Walk

Part = bytes | memoryview
_PIXEL_GROUP = 0x7FE00000
_FLOATS = (0x7FE00008, 0x7FE00009)
_TAG = itemgetter(0)
_PIXELS = frozenset((*_FLOATS, PIXEL_DATA))


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
class _Made:
    """A data set on its way to the check: its header in one part, then its pixels."""

    parts: list[Part]
    syntax: Syntax
    options: tuple[Option, ...]
    seen: set[int]
    removed: set[int]


@dataclass(frozen=True, slots=True)
class _Draft:
    """What was made of an object, and what the check compares it with."""

    made: _Made
    facts: Facts
    original: bytes
    source: Syntax


@dataclass(frozen=True, slots=True)
class Output:
    """An object that may leave: a Part 10 file in parts; valid as long as the input is not changed."""

    parts: Sequence[Part]
    report: Report

    def __iter__(self) -> Iterator[Part]:
        return iter(self.parts)

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)


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
        self._context = context
        self._key = ProjectKey(context.project_key)
        self._profile = profile(context.release.profile, context.release.version, context.site_profiles)
        self._rules = Rules(self._profile, self._key)
        self._checker = Checker(self._profile)

    def deidentify(self, data: Buffer, transfer_syntax: str = "", sop_class: str = "") -> Output:
        """De-identify one object (see the function of this name)."""
        return self._checked(self._draft(Received(data, transfer_syntax, sop_class)))

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
        drafts = [self._draft(each, in_series=True) for each in received]
        images = [self._image(draft) for draft in drafts]
        assert self._profile.transform is not None  # noqa: S101 - else a draft was refused
        series.cleaned(sorted(images, key=attrgetter("header")), self._profile.transform)
        for draft, image in zip(drafts, images, strict=True):
            bits.check(image.pixels, draft.facts)
            header, *_, filler = draft.made.parts[1:]
            draft.made.parts[1:] = [header, image.pixels, filler]
        return [self._checked(draft) for draft in drafts]

    def _draft(self, received: Received, *, in_series: bool = False) -> _Draft:
        opened = part10.open_object(received.data, received.transfer_syntax, self._context.limits)
        reader = Reader(opened.data, self._context.limits)
        elements = reader.data_set(opened.start, opened.source)
        header_end = _header_end(elements, len(opened.data))
        header = bytes(opened.data[:header_end])
        facts = Facts.of(header, elements, opened.syntax)
        if self._admit(facts, received.sop_class) is not in_series:
            if in_series:
                raise refused(Reason.RECOGNIZABLE, "not of the volume")
            raise SeriesNeeded(facts.raw(f.SERIES_INSTANCE))
        made = self._made(opened, header, reader, elements, facts, in_series=in_series)
        return _Draft(made, facts, header[opened.start :], opened.source)

    def _checked(self, draft: _Draft) -> Output:
        """Return a draft as a file, after the independent check."""
        made = draft.made
        head, *bulk = made.parts
        self._checker.check(bytes(head), bulk, made.syntax.uid, draft.original, draft.source.uid)
        report = Report(made.options, self._profile, made.seen, made.removed)
        output = Output(self._file(made, draft.facts), report)
        self._look(output)
        return output

    def _image(self, draft: _Draft) -> Image:
        """Return what a transform gets: native pixels in one writable buffer, without a filler byte."""
        made = draft.made
        if made.syntax.codec is not LITTLE or len(made.parts) < 3:
            raise refused(Reason.RECOGNIZABLE, "no native pixels")
        pixels = [part for part in made.parts[2:-1] if len(part)]
        whole = pixels[0] if len(pixels) == 1 else b""
        if not isinstance(whole, memoryview) or whole.readonly:
            whole = memoryview(bytearray(b"".join(pixels)))
        header = b"".join(self._file(replace(made, parts=made.parts[:1]), draft.facts))
        return Image(header, whole)

    def _made(
        self,
        opened: part10.Opened,
        header: bytes,
        reader: Reader,
        elements: list[Element],
        facts: Facts,
        *,
        in_series: bool,
    ) -> _Made:
        """Return the data set that leaves: what comes before the pixels in one part, then these."""
        rectangles = self._context.policy.rectangles(facts)
        native = bool(rectangles) or in_series
        out = EXPLICIT_LITTLE if native and opened.syntax.pixels else opened.syntax
        walk = Walk(header, reader, out, self._rules, self._patient(facts))
        ordered = walk.ordered(elements)
        if Option.SAFE_PRIVATE in self._profile.options:
            walk.keep_private(ordered)
        first_pixel = _index(ordered, _PIXEL_GROUP)
        view, pixels = memoryview(opened.data), list[Part]()
        stated: dict[int, bytes] = {}
        for element in ordered[first_pixel:]:
            if element.tag not in _PIXELS:
                continue
            if native:
                blanked = blank.blanked(element, view, facts, out, rectangles)
                pixels += blanked.parts
                stated |= {tag: _element(out, tag, *value) for tag, value in blanked.changes.items()}
            elif element.tag == PIXEL_DATA and out.pixels:
                pixels += frames.encapsulated(element, view, facts, out)
            else:
                pixels += frames.native(element, view, facts, out)
        options = self._profile.options + ((Option.PIXELS,) if rectangles and stated else ())
        if in_series:
            options += (Option.FEATURES,)
            stated[f.RECOGNIZABLE] = _element(out, f.RECOGNIZABLE, b"CS", b"NO")
        stated |= statement(out, self._profile, options)
        body = _merged(walk, ordered[:first_pixel], opened.source, stated)
        return _Made([body, *pixels], out, options, walk.seen, walk.removed)

    def _admit(self, facts: Facts, announced: str) -> bool:
        """Refuse what may not leave; tell whether it leaves through the profile's transform."""
        sop_class = facts.raw(f.SOP_CLASS).decode("ascii", "replace")
        if not sop_class or not facts.raw(f.SOP_INSTANCE):
            raise refused(Reason.NO_IDENTITY)
        if announced and announced != sop_class:
            raise refused(Reason.MALFORMED)
        policy = self._context.policy
        volume = self._profile.transform is not None and is_head_volume(facts)
        if volume:
            policy = replace(policy, recognizable=True)  # it will not be, when it leaves
        policy.admit(sop_class, facts, self._profile.options)
        return volume

    def _patient(self, facts: Facts) -> Patient:
        patient_id, issuer = facts.text(f.PATIENT_ID), facts.text(f.ISSUER)
        pseudonym = self._key.pseudonym(patient_id, issuer).encode("ascii")
        return Patient(pseudonym, self._key.shift_days(patient_id, issuer))

    def _file(self, made: _Made, facts: Facts) -> list[Part]:
        rule = self._profile.rules[f.SOP_INSTANCE]
        instance = values.uids(facts.raw(f.SOP_INSTANCE), self._key.uid, keep=rule.check == "kept")
        meta = part10.file_meta(facts.raw(f.SOP_CLASS), instance, made.syntax, self._profile)
        return [meta, *(part10.stored(made.parts) if made.syntax.deflated else made.parts)]

    def _look(self, output: Output) -> None:
        detector = self._context.policy.detector
        if detector is not None and len(output.parts) > 2 and detector.shows_text(bytes(output)):
            raise refused(Reason.BURNED_IN, "detector")


def _merged(walk: Walk, elements: Sequence[Element], source: Syntax, stated: Mapping[int, bytes]) -> bytes:
    """Return cleaned elements with what is stated in its places, instead of what stood there."""
    chunks: list[bytes] = []
    at = 0
    for tag, encoded in sorted(stated.items()):
        stop = _index(elements, tag)
        chunks += walk.elements(elements[at:stop], source)
        chunks.append(encoded)
        at = stop + (stop < len(elements) and elements[stop].tag == tag)
    return b"".join((*chunks, *walk.elements(elements[at:], source)))


@lru_cache(maxsize=64)
def statement(syntax: Syntax, its_profile: Profile, options: tuple[Option, ...]) -> Mapping[int, bytes]:
    """Return what says that identity was removed, by which profile and options (PS3.15 E.1.1)."""
    items = []
    for option in options:
        row = BY_OPTION[option]
        body = (
            _element(syntax, 0x00080100, b"SH", row.code.encode())
            + _element(syntax, 0x00080102, b"SH", b"DCM")
            + _element(syntax, 0x00080104, b"LO", row.meaning.encode())
        )
        items.append(syntax.item(ITEM, len(body)) + body)
    values_of = {
        0x00120062: (b"CS", b"YES"),
        0x00120063: (b"LO", f"srm-dicom {its_profile}".encode()),
        0x00120064: (b"SQ", b"".join(items)),
        0x00280303: (b"CS", its_profile.temporal),
    }
    return {tag: _element(syntax, tag, vr, value) for tag, (vr, value) in values_of.items()}


def _element(syntax: Syntax, tag: int, vr: bytes, value: bytes) -> bytes:
    padded = pad(value)
    return syntax.header(tag, vr, len(padded)) + padded


def _index(elements: Sequence[Element], tag: int) -> int:
    return bisect_left(elements, tag, key=_TAG)


def _header_end(elements: Sequence[Element], size: int) -> int:
    """Return where the bytes end that the walk needs: where the pixel data at the end begin."""
    end = size
    for element in reversed(elements):
        if element[0] not in _PIXELS:
            break
        end = element.start
    return end
