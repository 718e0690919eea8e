"""Drafts what may leave of one object: opens it, decides whether it may leave, walks it.

A draft depends on the object, the project's key and the profile alone. Its parts come in order; pixel data
are views of the input, never copies. It goes nowhere before the independent check (see `engine`). Of an
object that is too large for memory (`view`) the pixels are made while they are written.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from operator import itemgetter
from typing import NamedTuple, cast

from srm_plugin_dicom.deidentify import blank, frames, large, part10, values
from srm_plugin_dicom.deidentify import facts as f
from srm_plugin_dicom.deidentify.elements import Buffer, Element, Limits, Reader
from srm_plugin_dicom.deidentify.example import Example
from srm_plugin_dicom.deidentify.facts import Facts
from srm_plugin_dicom.deidentify.keyed import ProjectKey
from srm_plugin_dicom.deidentify.options import BY_OPTION, Option
from srm_plugin_dicom.deidentify.pixels import PixelPolicy, is_head_volume, searches_header
from srm_plugin_dicom.deidentify.plan import Followed, Made, Plan
from srm_plugin_dicom.deidentify.profile import Profile
from srm_plugin_dicom.deidentify.reasons import Reason, refused
from srm_plugin_dicom.deidentify.series import Received, SeriesNeeded
from srm_plugin_dicom.deidentify.syntax import EXPLICIT_LITTLE, ITEM, PIXEL_DATA, Syntax
from srm_plugin_dicom.deidentify.values import pad
from srm_plugin_dicom.deidentify.view import Part, View, Viewed
from srm_plugin_dicom.deidentify.walk import GONE, REMEMBERED_BYTES, Fate, Patient, Rules, Walk

Held = bytes | memoryview
_PIXEL_GROUP = 0x7FE00000
_FLOATS = (0x7FE00008, 0x7FE00009)
_TAG = itemgetter(0)
_PIXELS = frozenset((*_FLOATS, PIXEL_DATA))
_MOST_PLANS = 32
_UID_HEADER_BYTES = 8


class Draft(NamedTuple):
    """A data set on its way to the check, and what the check compares it with.

    Attributes:
        parts: the header in one part, then the pixels, unless these are `pixels`: made as they are taken.
        syntax: its transfer syntax.
        options: those of the profile, and what was done to the pixels.
        seen: tags that were met, at any depth; `removed` those of them of which nothing left.
        sop_class, instance: what it is now.
        facts: of the header that came, or of one that decides alike.
        original: the data set that came, up to its pixels; `source` how its elements are encoded.
    """

    parts: list[Held]
    syntax: Syntax
    options: tuple[Option, ...]
    seen: frozenset[int] | set[int]
    removed: frozenset[int] | set[int]
    sop_class: bytes
    instance: bytes
    facts: Facts
    original: bytes
    source: Syntax
    pixels: Iterable[Part] | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    """An example, and the plan that was made when another header was like it.

    Attributes:
        draft: what was made of it, without its parts.
        sop_class: as it may be announced.
        encodings: what is remembered of its elements goes by these, of the input and of the output.
        fixed: the indices of elements that decide about it as a whole.
    """

    example: Example
    draft: Draft
    patient: Patient
    sop_class: str
    encodings: str
    fixed: frozenset[int]
    plan: Plan | None = None
    native: frames.Native | None = None


class Drafter:
    """Drafts objects of one profile, project and policy, from any thread."""

    def __init__(self, profile: Profile, key: ProjectKey, policy: PixelPolicy, limits: Limits) -> None:
        self._profile = profile
        self._key = key
        self._policy = policy
        self._limits = limits
        self._rules = Rules(profile, key)
        self._known: tuple[_Known, ...] = ()

    def draft(self, received: Received, *, in_series: bool = False) -> Draft:
        """Return what may leave of an object, but for the check.

        Args:
            received: the object.
            in_series: it will go through the profile's transform: its pixels are made native.

        Raises:
            ObjectRefused: it may not leave, or cannot be walked.
            SeriesNeeded: it leaves only through the transform.
        """
        if isinstance(received.data, View):
            return self._draft_large(received.data, received)
        draft = None if in_series else self._like_another(received.data, received)
        if draft:
            return draft
        opened = part10.open_object(received.data, received.transfer_syntax, self._limits)
        reader = Reader(opened.data, self._limits)
        elements = reader.data_set(opened.start, opened.source)
        header = bytes(opened.data[: _header_end(elements, len(opened.data))])
        facts = Facts.of(header, elements, opened.syntax)
        if self._admit(facts, received.sop_class) is not in_series:
            if in_series:
                raise refused(Reason.RECOGNIZABLE, "not of the volume")
            raise SeriesNeeded(facts.raw(f.SERIES_INSTANCE))
        view = memoryview(opened.data)
        draft = self._walked(opened, reader, elements, facts, view, in_series=in_series)
        if not in_series and Option.PIXELS not in draft.options:
            self._learn(Example.of(opened, received.transfer_syntax, elements, facts), draft)
        return draft

    def _draft_large(self, view: View, received: Received) -> Draft:
        """Return the draft of an object of which no more than the header is in memory."""
        opened, reader, elements = large.read(view, received.transfer_syntax, self._limits)
        header = bytes(opened.data[: _header_end(elements, len(opened.data))])
        facts = Facts.of(header, elements, opened.syntax)
        if self._admit(facts, received.sop_class):
            raise SeriesNeeded(facts.raw(f.SERIES_INSTANCE))
        return self._walked(opened, reader, elements, facts, view, in_series=False)

    def _walked(
        self,
        opened: part10.Opened,
        reader: Reader,
        elements: Sequence[Element],
        facts: Facts,
        view: Viewed,
        *,
        in_series: bool,
    ) -> Draft:
        rectangles = self._policy.rectangles(facts)
        native = bool(rectangles) or in_series
        out = EXPLICIT_LITTLE if native and opened.syntax.pixels else opened.syntax
        walk = Walk(facts.data, reader, out, self._rules, self._patient(facts))
        ordered = walk.ordered(elements, opened.source)
        if Option.SAFE_PRIVATE in self._profile.options:
            walk.keep_private(ordered)
        first_pixel = _index(ordered, _PIXEL_GROUP)
        made: list[Iterable[Part]] = []
        stated: dict[int, bytes] = {}
        for element in ordered[first_pixel:]:
            if element.tag not in _PIXELS:
                continue
            if native:
                blanked = blank.blanked(element, view, facts, out, rectangles)
                pixels = blanked.parts
                stated |= {tag: _element(out, tag, *value) for tag, value in blanked.changes.items()}
            elif element.tag == PIXEL_DATA and out.pixels:
                pixels = frames.encapsulated(element, view, facts, out)
            else:
                pixels = iter(frames.native(element, view, facts, out))
            made.append(pixels if isinstance(view, View) else list(pixels))
        options = self._profile.options + ((Option.PIXELS,) if rectangles and stated else ())
        if in_series:
            options += (Option.FEATURES,)
            stated[f.RECOGNIZABLE] = _element(out, f.RECOGNIZABLE, b"CS", b"NO")
        stated |= statement(out, self._profile, options)
        body = _merged(walk, ordered[:first_pixel], opened.source, stated)
        later = chain.from_iterable(made) if isinstance(view, View) else None
        return Draft(
            [body, *(() if later else cast("Iterable[Held]", chain.from_iterable(made)))],
            out,
            options,
            walk.seen,
            walk.removed,
            facts.raw(f.SOP_CLASS),
            self._instance(facts.raw(f.SOP_INSTANCE)),
            facts,
            facts.data[opened.start :],
            opened.source,
            later,
        )

    def _like_another(self, data: Buffer, received: Received) -> Draft | None:
        """Return the draft of an object that one of the plans fits; that one is tried first the next time."""
        all_known = self._known
        for known_lengths in (True, False):
            for index, known in enumerate(all_known):
                plan = known.plan
                followed = plan and plan.follow(data, received.transfer_syntax, known=known_lengths)
                draft = self._planned(known, followed, data, received.sop_class) if followed else None
                if draft:
                    if index:
                        self._known = (known, *all_known[:index], *all_known[index + 1 :])
                    return draft
        return None

    def _planned(self, known: _Known, followed: Followed, data: Buffer, announced: str) -> Draft | None:
        """Return the draft of an object whose header differs from a known one in a few elements."""
        plan, draft = known.plan, known.draft
        assert plan is not None  # noqa: S101 - it was followed
        if announced and announced != known.sop_class:
            return None
        header, start, elements, encoded, told, pixel = followed
        instance = draft.instance
        walk: Walk | None = None
        memory = self._rules.memory_of(known.encodings)
        chunks = list(plan.runs)
        chunks[1::2] = encoded
        gone: list[int] = []
        for index, tag, fate in told:
            element, each = elements[index], encoded[index]
            if fate is None:
                walk = walk or self._walk(known, header)
                chunk = b"".join(walk.elements((element,), draft.source))
            elif tag == f.SOP_INSTANCE:
                value = each[element.value - element.start :]
                chunk = fate.of(value, known.patient)
                instance = chunk[_UID_HEADER_BYTES:] or self._instance(value.rstrip(b" \0"))
                if not instance or len(value) > f.LONGEST:
                    return None
            else:
                made = memory.get(each)
                chunk = (
                    fate.of(each[element.value - element.start :], known.patient) if made is None else made
                )
                if made is None and fate.lasting and len(each) <= REMEMBERED_BYTES:
                    memory[each] = chunk
            chunks[2 * index + 1] = chunk
            if not chunk:
                gone.append(tag)
        view, out = memoryview(data), draft.syntax
        pixels: Iterable[Part]
        if known.native:
            pixels = known.native.parts(pixel, view)
        else:
            pixels = frames.encapsulated(pixel, view, draft.facts, out)
        seen, removed = plan.seen, plan.removed.union(gone) if gone else plan.removed
        return Draft(
            [b"".join(chunks), *cast("Iterable[Held]", pixels)],
            out,
            draft.options,
            seen | walk.seen if walk else seen,
            removed | walk.removed if walk else removed,
            draft.sop_class,
            instance,
            draft.facts,
            header[start:],
            draft.source,
        )

    def _learn(self, example: Example | None, draft: Draft) -> None:
        """Remember a header; where one like it is known, make a plan for what they share.

        The first of another series, with the attributes of one that is known, gets a plan at once: within it
        the same values will differ.
        """
        if example is None:
            return
        stated = statement(draft.syntax, self._profile, draft.options)
        known = self._known
        alike = next((each for each in known if each.example.has_attributes_of(example)), None)
        if alike:
            example, fixed = replace(example, shape=alike.example.shape), alike.fixed
        else:
            fixed = example.fixed(stated)
        for index, each in enumerate(known):
            differing = each.example.differing(example, fixed) if alike else None
            if differing is not None:
                varying = differing | (each.plan.varying if each.plan else frozenset())
                made = each.plan.made if each.plan else self._made(each)
                plan = Plan(each.example, varying, made, stated, searched=self._searches(example))
                wider = replace(each, plan=plan)
                self._known = (wider, *known[:index], *known[index + 1 :])
                return
        native = None
        if not draft.syntax.pixels:
            native = frames.Native.of(example.pixel, example.facts, draft.syntax)
        without = draft._replace(parts=[], original=b"")  # what it holds of the object itself may go
        sop_class = draft.sop_class.decode("ascii", "replace")
        encodings = f"{draft.source.encoding} to {draft.syntax.encoding}"
        new = _Known(
            example, without, self._patient(example.facts), sop_class, encodings, fixed, None, native
        )
        plans = (
            each.plan
            for each in known
            if each.plan and each.draft.syntax == draft.syntax and each.example.has_attributes_of(example)
        )
        like = next(plans, None)
        varying = like.varying - fixed if like else frozenset[int]()
        if varying:
            searched = self._searches(example)
            new = replace(new, plan=Plan(example, varying, self._made(new, like), stated, searched=searched))
        self._known = (new, *known[: _MOST_PLANS - 1])

    def _made(self, known: _Known, plan: Plan | None = None) -> list[Made]:
        """Return what becomes of each element of a known header; a plan for such tells of some."""
        found = []
        walk = self._walk(known, known.example.data)
        for index, element in enumerate(known.example.elements):
            if plan and plan.tells(index, known.example):
                found.append(plan.made[index])
                continue
            walk.seen, walk.removed = set(), set()
            inside = known.example.has(element)
            chunk = b"".join(walk.elements((element,), known.example.source)) if inside else b""
            fate = self._fate(known, element) if inside else None
            found.append(Made(chunk, frozenset(walk.seen), frozenset(walk.removed), fate))
        return found

    def _fate(self, known: _Known, element: Element) -> Fate | None:
        """Return what becomes of values in the place of an element; None where that takes a walk."""
        rule = self._rules.get(element.tag)
        if rule is None:
            private = Option.SAFE_PRIVATE in self._profile.options and element.tag & 0x10000
            return None if private else Fate()
        if rule.action in GONE:
            return Fate()
        if rule.vrs[0] == b"SQ":
            return None
        return self._rules.fate(rule, element.vr, known.draft.syntax)

    def _walk(self, known: _Known, header: bytes) -> Walk:
        """Return the walk of a header that is like a known one."""
        example = known.example
        walk = Walk(header, Reader(header, self._limits), known.draft.syntax, self._rules, known.patient)
        if Option.SAFE_PRIVATE in self._profile.options:
            walk.keep_private(example.elements, example.data)
        return walk

    def _admit(self, facts: Facts, announced: str) -> bool:
        """Refuse what may not leave; tell whether it leaves through the profile's transform."""
        sop_class = facts.raw(f.SOP_CLASS).decode("ascii", "replace")
        if not sop_class or not facts.raw(f.SOP_INSTANCE):
            raise refused(Reason.NO_IDENTITY)
        if announced and announced != sop_class:
            raise refused(Reason.MALFORMED)
        policy = self._policy
        volume = self._profile.transform is not None and is_head_volume(facts)
        if volume:
            policy = replace(policy, recognizable=True)  # it will not be, when it leaves
        policy.admit(sop_class, facts, self._profile.options)
        return volume

    def _searches(self, example: Example) -> bool:
        """Tell whether it is decided by what stands anywhere in the header of such objects."""
        faces = self._profile.transform is not None or not self._policy.recognizable
        return faces and searches_header(example.facts)

    def _patient(self, facts: Facts) -> Patient:
        patient_id, issuer = facts.text(f.PATIENT_ID), facts.text(f.ISSUER)
        pseudonym = self._key.pseudonym(patient_id, issuer).encode("ascii")
        return Patient(pseudonym, self._key.shift_days(patient_id, issuer))

    def _instance(self, original: bytes) -> bytes:
        rule = self._rules.get(f.SOP_INSTANCE)
        keep = rule is not None and rule.check == "kept"
        return values.uids(original, self._key.uid, keep=keep)


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
