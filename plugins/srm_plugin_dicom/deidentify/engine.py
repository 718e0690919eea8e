"""De-identifies one object: opens it, decides whether it may leave, walks it, checks what was made.

The bytes that leave depend on the object, the project's key and the profile alone. They come as parts
in order; pixel data are views of the input, never copies. No part is given out before the independent
check of all of them has passed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from srm_dicom.rights.project import Release
from srm_plugin_dicom.deidentify import facts as f
from srm_plugin_dicom.deidentify import frames, part10, values
from srm_plugin_dicom.deidentify.checker import Checker
from srm_plugin_dicom.deidentify.elements import Buffer, Element, Limits, Reader
from srm_plugin_dicom.deidentify.facts import Facts
from srm_plugin_dicom.deidentify.keyed import ProjectKey
from srm_plugin_dicom.deidentify.options import BY_OPTION
from srm_plugin_dicom.deidentify.pixels import PixelPolicy
from srm_plugin_dicom.deidentify.profile import Profile, profile
from srm_plugin_dicom.deidentify.reasons import Reason, refused
from srm_plugin_dicom.deidentify.report import Report
from srm_plugin_dicom.deidentify.syntax import ITEM, PIXEL_DATA, Syntax
from srm_plugin_dicom.deidentify.values import pad
from srm_plugin_dicom.deidentify.walk import Patient, Rules, Walk

Part = bytes | memoryview
_PAD = b" \0"
_IDENTITY_REMOVED = 0x00120062
_TEMPORAL = 0x00280303
_PIXEL_GROUP = 0x7FE00000
_FLOATS = (0x7FE00008, 0x7FE00009)
_PIXELS = frozenset((*_FLOATS, PIXEL_DATA))


@dataclass(frozen=True)
class Context:
    """What an object is de-identified for.

    Attributes:
        project_key: what UIDs, pseudonyms and date shifts of the project derive from.
        release: names the profile and its version.
        policy: what the site states about pixels.
    """

    project_key: bytes = field(repr=False)
    release: Release
    policy: PixelPolicy = field(default_factory=PixelPolicy)
    limits: Limits = field(default_factory=Limits)


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
        self._profile = profile(context.release.profile, context.release.version)
        self._rules = Rules(self._profile, self._key)
        self._checker = Checker(self._profile)

    def deidentify(self, data: Buffer, transfer_syntax: str = "", sop_class: str = "") -> Output:
        """De-identify one object (see the function of this name)."""
        opened = part10.open_object(data, transfer_syntax, self._context.limits)
        reader = Reader(opened.data, self._context.limits)
        elements = reader.data_set(opened.start, opened.source)
        header_end = _header_end(elements, len(opened.data))
        header = bytes(opened.data[:header_end])
        facts = Facts.of(header, elements, opened.syntax)
        parts, walk = self._made(opened, header, reader, elements, facts, sop_class)
        head, *bulk = parts
        original = header[opened.start :]
        self._checker.check(bytes(head), bulk, opened.syntax.uid, original, opened.source.uid)
        report = Report(self._profile, walk.seen, walk.removed)
        return Output(self._file(parts, facts, opened.syntax), report)

    def _made(
        self,
        opened: part10.Opened,
        header: bytes,
        reader: Reader,
        elements: list[Element],
        facts: Facts,
        sop_class: str,
    ) -> tuple[list[Part], Walk]:
        """Return the data set that leaves: what comes before the pixels in one part, then these."""
        view, syntax = memoryview(opened.data), opened.syntax
        self._admit(facts, sop_class)
        walk = Walk(header, reader, syntax, self._rules, self._patient(facts))
        ordered = walk.ordered(elements)
        first_pixel = _index(ordered, _PIXEL_GROUP)
        body = self._with_statement(walk, ordered[:first_pixel], opened)
        pixels: list[Part] = []
        for element in ordered[first_pixel:]:
            if element.tag == PIXEL_DATA and syntax.pixels:
                pixels += frames.encapsulated(element, view, facts, syntax)
            elif element.tag == PIXEL_DATA or element.tag in _FLOATS:
                pixels += frames.native(element, view, facts, syntax)
        return [body, *pixels], walk

    def _admit(self, facts: Facts, announced: str) -> None:
        sop_class = facts.raw(f.SOP_CLASS).decode("ascii", "replace")
        if not sop_class or not facts.raw(f.SOP_INSTANCE):
            raise refused(Reason.NO_IDENTITY)
        if announced and announced != sop_class:
            raise refused(Reason.MALFORMED)
        self._context.policy.admit(sop_class, facts)

    def _patient(self, facts: Facts) -> Patient:
        patient_id, issuer = facts.raw(f.PATIENT_ID).strip(_PAD), facts.raw(f.ISSUER).strip(_PAD)
        pseudonym = self._key.pseudonym(patient_id, issuer).encode("ascii")
        return Patient(pseudonym, self._key.shift_days(patient_id, issuer))

    def _with_statement(self, walk: Walk, elements: Sequence[Element], opened: part10.Opened) -> bytes:
        """Return cleaned elements with what was done stated between them (PS3.15 E.1.1)."""
        syntax, source = opened.syntax, opened.source
        first, second = _index(elements, _IDENTITY_REMOVED), _index(elements, _TEMPORAL)
        chunks = [
            *walk.elements(elements[:first], source),
            method(syntax, self._profile),
            *walk.elements(elements[first:second], source),
            _element(syntax, _TEMPORAL, b"CS", self._profile.temporal),
            *walk.elements(elements[second:], source),
        ]
        return b"".join(chunks)

    def _file(self, parts: list[Part], facts: Facts, syntax: Syntax) -> list[Part]:
        rule = self._profile.rules[f.SOP_INSTANCE]
        instance = values.uids(facts.raw(f.SOP_INSTANCE), self._key.uid, keep=rule.check == "kept")
        meta = part10.file_meta(facts.raw(f.SOP_CLASS), instance, syntax, self._profile)
        return [meta, *(part10.stored(parts) if syntax.deflated else parts)]


@lru_cache(maxsize=64)
def method(syntax: Syntax, its_profile: Profile) -> bytes:
    """Return (0012,0062) to (0012,0064): identity removed, by which profile and options."""
    items = []
    for option in its_profile.options:
        row = BY_OPTION[option]
        body = (
            _element(syntax, 0x00080100, b"SH", row.code.encode())
            + _element(syntax, 0x00080102, b"SH", b"DCM")
            + _element(syntax, 0x00080104, b"LO", row.meaning.encode())
        )
        items.append(syntax.item(ITEM, len(body)) + body)
    return (
        _element(syntax, _IDENTITY_REMOVED, b"CS", b"YES")
        + _element(syntax, 0x00120063, b"LO", f"srm-dicom {its_profile}".encode())
        + _element(syntax, 0x00120064, b"SQ", b"".join(items))
    )


def _element(syntax: Syntax, tag: int, vr: bytes, value: bytes) -> bytes:
    padded = pad(value)
    return syntax.header(tag, vr, len(padded)) + padded


def _index(elements: Sequence[Element], tag: int) -> int:
    return bisect_left(elements, tag, key=lambda element: element[0])


def _header_end(elements: Sequence[Element], size: int) -> int:
    """Return where the bytes end that the walk needs: where the pixel data at the end begin."""
    end = size
    for element in reversed(elements):
        if element[0] not in _PIXELS:
            break
        end = element.start
    return end
