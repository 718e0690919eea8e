"""What was learnt from objects that the whole walk has dealt with, so that it need not deal with all.

Objects of one kind have the same attributes, and there is one plan for all of them (see `plan`), whichever
patients and series they are of. What is decided about an object as a whole is remembered by the bytes that
decide, with what became of its patient's values; both are within bounds.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple, cast

from srm_dicom.errors import ObjectRefused
from srm_plugin_dicom.deidentify import facts as f
from srm_plugin_dicom.deidentify import frames
from srm_plugin_dicom.deidentify.deciding import Decisions, is_named
from srm_plugin_dicom.deidentify.draft import Draft, Held, statement
from srm_plugin_dicom.deidentify.elements import Buffer, Element, Limits, Reader
from srm_plugin_dicom.deidentify.example import Example
from srm_plugin_dicom.deidentify.facts import Facts
from srm_plugin_dicom.deidentify.options import Option
from srm_plugin_dicom.deidentify.plan import Followed, Made, Plan, Told
from srm_plugin_dicom.deidentify.series import Received
from srm_plugin_dicom.deidentify.view import Part
from srm_plugin_dicom.deidentify.walk import GONE, Fate, Patient, Rules, Walk

_MOST_KINDS, _MOST_VERDICTS, _MOST_MADE, _LONGEST_MADE = 32, 32, 512, 1024
_UID_HEADER_BYTES = 8


class _Verdict(NamedTuple):
    """What was decided about an object, and holds for all of its kind in which the same bytes decide.

    Attributes:
        made: what leaves of elements of these, by their bytes; `walked` of sequences.
    """

    facts: Facts
    patient: Patient
    native: frames.Native | None
    made: dict[bytes, bytes]
    walked: dict[bytes, Made]


@dataclass(frozen=True, slots=True)
class _Kind:
    """An example, and the plan that was made when another header was like it.

    Attributes:
        draft: what was made of it, without its parts.
        fixed: the indices of elements that all of the kind have in common.
        verdicts: by what decides, of that which differs.
    """

    example: Example
    draft: Draft
    fixed: frozenset[int]
    plan: Plan | None = None
    verdicts: dict[tuple[bytes, ...], _Verdict] = field(default_factory=dict)


class Learnt:
    """What is known of objects of one profile, project and policy; for any number of threads."""

    def __init__(self, rules: Rules, decisions: Decisions, limits: Limits) -> None:
        self._rules = rules
        self._decisions = decisions
        self._limits = limits
        self._safe = Option.SAFE_PRIVATE in rules.profile.options
        self._kinds: tuple[_Kind, ...] = ()

    def draft(self, data: Buffer, received: Received) -> Draft | None:
        """Return the draft of an object that one of the plans fits; that one is tried first the next time."""
        kinds = self._kinds
        for known_lengths in (True, False):
            for index, kind in enumerate(kinds):
                plan = kind.plan
                followed = plan and plan.follow(data, received.transfer_syntax, known=known_lengths)
                draft = self._planned(kind, followed, data, received.names) if followed else None
                if draft:
                    if index:
                        self._kinds = (kind, *kinds[:index], *kinds[index + 1 :])
                    return draft
        return None

    def learn(self, example: Example | None, draft: Draft) -> None:
        """Remember a header; where one of its kind is known, let its plan have the values that differ."""
        if example is None:
            return
        stated = statement(draft.syntax, self._rules.profile, draft.options)
        kinds = self._kinds
        alike = next((each for each in kinds if each.example.has_attributes_of(example)), None)
        fixed = alike.fixed if alike else example.fixed(stated)
        for index, kind in enumerate(kinds):
            differing = kind.example.differing(example, fixed) if alike else None
            if differing is not None:
                varying = differing | (kind.plan.varying if kind.plan else frozenset())
                wider = self._planning(kind, varying, kind.plan.made if kind.plan else self._made(kind))
                self._kinds = (wider, *kinds[:index], *kinds[index + 1 :])
                return
        if alike:
            example = replace(example, shape=alike.example.shape)
        without = draft._replace(parts=[], original=b"")  # what it holds of the object itself may go
        new = _Kind(example, without, fixed)
        if alike and alike.plan and alike.draft.syntax == draft.syntax:
            varying = alike.plan.varying - fixed
            new = self._planning(new, varying, self._made(new, alike.plan)) if varying else new
        self._kinds = (new, *kinds[: _MOST_KINDS - 1])

    def _planning(self, kind: _Kind, varying: frozenset[int], made: Sequence[Made]) -> _Kind:
        """Return a kind with a plan in which some elements differ."""
        draft, example = kind.draft, kind.example
        stated = statement(draft.syntax, self._rules.profile, draft.options)
        searched = self._decisions.searches(example.facts)
        plan = Plan(example, varying, made, stated, searched=searched)
        return replace(kind, plan=plan, verdicts={})

    def _planned(self, kind: _Kind, followed: Followed, data: Buffer, names: Sequence[str]) -> Draft | None:
        """Return the draft of an object whose header differs from a known one in a few elements."""
        plan, draft = kind.plan, kind.draft
        assert plan is not None  # noqa: S101 - it was followed
        header, start, elements, encoded, told, deciding, own, pixel = followed
        if not is_named(names, own):
            return None
        verdict = kind.verdicts.get(deciding) or self._decided(kind, followed)
        if verdict is None:
            return None
        instance, seen, removed = draft.instance, plan.seen, plan.removed
        chunks = list(plan.runs)
        chunks[1::2] = encoded
        if gone := _fill(chunks, encoded, told, verdict):
            removed = _with(removed, frozenset(gone))
        for number in plan.items:
            made = verdict.walked.get(encoded[number]) or self._walked(
                kind, verdict, header, elements[number]
            )
            chunks[2 * number + 1] = made.chunk
            seen, removed = _with(seen, made.seen), _with(removed, made.removed)
        if plan.instance:
            number, _, header_bytes, fate = plan.instance
            value = encoded[number][header_bytes:]
            chunks[2 * number + 1] = chunk = fate.of(value, verdict.patient)
            instance = chunk[_UID_HEADER_BYTES:] or self._decisions.instance(value.rstrip(b" \0"))
            if not instance or len(value) > f.LONGEST:
                return None
        view = memoryview(data)
        pixels: Iterable[Part]
        if verdict.native:
            pixels = verdict.native.parts(pixel, view)
        else:
            pixels = frames.encapsulated(pixel, view, verdict.facts, draft.syntax)
        return Draft(
            [b"".join(chunks), *cast("Iterable[Held]", pixels)],
            draft.syntax,
            draft.options,
            seen,
            removed,
            draft.sop_class,
            instance,
            verdict.facts,
            header[start:],
            draft.source,
        )

    def _decided(self, kind: _Kind, followed: Followed) -> _Verdict | None:
        """Decide about an object that a plan fits; None if it does not leave as others of its kind do."""
        header, syntax = followed.header, kind.draft.syntax
        try:
            elements = Reader(header, self._limits).data_set(followed.start, kind.draft.source)
            facts = Facts.of(header, (*elements, followed.pixel), syntax)
            if self._decisions.admit(facts) or self._decisions.rectangles(facts):
                return None
        except ObjectRefused:
            return None  # the whole way, on which it says so
        native = None if syntax.pixels else frames.Native.of(followed.pixel, facts, syntax)
        verdict = _Verdict(facts, self._decisions.patient(facts), native, {}, {})
        if len(kind.verdicts) >= _MOST_VERDICTS:
            kind.verdicts.clear()
        kind.verdicts[followed.deciding] = verdict
        return verdict

    def _walked(self, kind: _Kind, verdict: _Verdict, header: bytes, element: Element) -> Made:
        """Have an element walked, and remember what leaves of it."""
        walk = self._walk(kind, header, verdict.patient)
        chunk = b"".join(walk.elements((element,), kind.draft.source))
        made = Made(chunk, frozenset(walk.seen), frozenset(walk.removed))
        if element.stop - element.start <= _LONGEST_MADE:
            if len(verdict.walked) >= _MOST_MADE:
                verdict.walked.clear()
            verdict.walked[header[element.start : element.stop]] = made
        return made

    def _made(self, kind: _Kind, plan: Plan | None = None) -> list[Made]:
        """Return what becomes of each element of a kind's example; a plan for such tells of some."""
        found = []
        example = kind.example
        walk = self._walk(kind, example.data, self._decisions.patient(example.facts))
        for index, element in enumerate(example.elements):
            if plan and plan.tells(index, example):
                found.append(plan.made[index])
                continue
            walk.seen, walk.removed, walk.personal = set(), set(), False
            inside = example.has(element)
            chunk = b"".join(walk.elements((element,), example.source)) if inside else b""
            fate = self._fate(kind, element) if inside else None
            found.append(Made(chunk, frozenset(walk.seen), frozenset(walk.removed), fate, walk.personal))
        return found

    def _fate(self, kind: _Kind, element: Element) -> Fate | None:
        """Return what becomes of values in the place of an element; None where that takes a walk."""
        rule = self._rules.get(element.tag)
        if rule is None:
            return None if self._safe and element.tag & 0x10000 else Fate()
        if rule.action in GONE:
            return Fate()
        if rule.vrs[0] == b"SQ":
            return None
        return self._rules.fate(rule, element.vr, kind.draft.syntax)

    def _walk(self, kind: _Kind, header: bytes, patient: Patient) -> Walk:
        """Return the walk of a header of a kind."""
        example = kind.example
        walk = Walk(header, Reader(header, self._limits), kind.draft.syntax, self._rules, patient)
        if self._safe:
            walk.keep_private(example.elements, example.data)
        return walk


@lru_cache(maxsize=256)
def _with(tags: frozenset[int], more: frozenset[int]) -> frozenset[int]:
    """Return both; the same set each time: whether two images have the same is told without a look at it."""
    return tags | more


def _fill(
    chunks: list[bytes], encoded: Sequence[bytes], told: Sequence[Told], verdict: _Verdict
) -> list[int]:
    """Put what leaves of some elements in their places; returns the tags of those of which nothing does."""
    made, gone = verdict.made, []
    for number, tag, header_bytes, fate in told:
        each = encoded[number]
        chunk = made.get(each)
        if chunk is None:
            chunk = fate.of(each[header_bytes:], verdict.patient)
            if len(made) >= _MOST_MADE:
                made.clear()
            if len(each) <= _LONGEST_MADE:
                made[each] = chunk
        chunks[2 * number + 1] = chunk
        if not chunk:
            gone.append(tag)
    return gone
