"""Walks the elements of an object and writes those that may leave, each by its profile's rule.

The output is canonical: ascending tags, defined lengths, no group lengths, nothing private. The walk
depends on the object, the project's key and the profile alone. Small elements repeat from slice to
slice, so what became of them is remembered by their encoded bytes, within a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import NamedTuple

from srm_dicom.errors import ObjectRefused
from srm_plugin_dicom.deidentify import luts, tables, values
from srm_plugin_dicom.deidentify.elements import Element, Reader
from srm_plugin_dicom.deidentify.keyed import ProjectKey
from srm_plugin_dicom.deidentify.profile import Action, Profile, Rule, kept
from srm_plugin_dicom.deidentify.reasons import Reason, refused
from srm_plugin_dicom.deidentify.syntax import (
    EXPLICIT_LITTLE,
    IMPLICIT_LITTLE,
    ITEM,
    LONGEST_SHORT,
    SHORT_VRS,
    UNDEFINED,
    Syntax,
)
from srm_plugin_dicom.deidentify.tables import KeepRow

Make = Callable[[bytes, "Patient"], bytes | None]
Write = Callable[[bytes, "Patient"], bytes]

CONTENT, VALUE_TYPE, CONCEPT_CODE = 0x0040A730, 0x0040A040, 0x0040A168
CODE_VALUE, CODING_SCHEME, CODE_MEANING = 0x00080100, 0x00080102, 0x00080104
_CONCEPT = frozenset((CODE_VALUE, CODING_SCHEME, CODE_MEANING))
REMEMBERED_BYTES = 160
# Values that no object has by itself, so that one in an output is never an original.
DUMMIES = {b"DA": b"19110803", b"TM": b"031459", b"DT": b"19110803031459", b"AS": b"111Y"}
DUMMY_TEXT = b"SRMD-REMOVED"
DUMMY_BYTES = b"\0\0"
_TEXT = SHORT_VRS | {b"UC", b"UR", b"UT"}
_NUMBERS = frozenset((b"US", b"SS", b"UL", b"SL", b"FL", b"FD", b"AT"))


@dataclass(frozen=True, slots=True)
class Patient:
    """What an object's patient is called and how far their dates go back, in one project."""

    pseudonym: bytes
    shift_days: int


_NOBODY = Patient(b"", 0)
GONE = frozenset((Action.DROP, Action.CONCEPT, Action.PIXELS))
"""Of these attributes nothing leaves by itself: of a concept its item decides, of pixels what they are."""


class Fate(NamedTuple):
    """What becomes of an attribute that came in some representation, as a value and not as items.

    Attributes:
        write: makes the element that leaves of a value and its patient; None where all become the same.
        constant: the element that leaves then; empty if none does.
        lasting: of the same bytes always becomes the same, whoever the patient is.
        numbers: the value is proven as decimal numbers; `most` their multiplicity.
    """

    write: Write | None = None
    constant: bytes = b""
    lasting: bool = True
    numbers: bool = False
    most: int | None = None

    def of(self, value: bytes, patient: Patient) -> bytes:
        """Return the element that leaves of a value."""
        return self.write(value, patient) if self.write else self.constant


class Rules:
    """A profile made ready for one project: a function for each attribute. Shared by all objects."""

    def __init__(self, profile: Profile, key: ProjectKey, *, remembered: int = 50_000) -> None:
        self.profile = profile
        self._key = key
        self._remembered = remembered
        self._fates: dict[tuple[Rule, bytes, str], Fate] = {}
        self._memory: dict[str, dict[bytes, bytes]] = {}

    def get(self, tag: int) -> Rule | None:
        """Return the rule of an attribute."""
        return self.profile.rules.get(tag)

    def fate(self, rule: Rule, vr: bytes, out: Syntax) -> Fate:
        """Return what becomes of an attribute that is no sequence, by its representation as it came."""
        key = rule, vr, out.encoding  # the whole rule: a private attribute's depends on its creator
        try:
            return self._fates[key]
        except KeyError:
            fate = self._fates[key] = self._fate(rule, _representation(vr, rule), out)
            return fate

    def _fate(self, rule: Rule, vr: bytes, out: Syntax) -> Fate:
        make = self._build(rule, rule.action, vr) if vr else None
        if make is None:
            return Fate()
        header = out.headers(rule.tag, vr)
        if rule.action in (Action.EMPTY, Action.DUMMY):
            value = make(b"", _NOBODY) or b""
            return Fate(None, header(len(value)) + value)
        most = LONGEST_SHORT if vr in SHORT_VRS else UNDEFINED

        def write(value: bytes, patient: Patient) -> bytes:
            made = make(value, patient)
            return b"" if made is None or len(made) > most else header(len(made)) + made

        lasting = rule.action not in (Action.SHIFT, Action.PSEUDONYM)
        numbers = rule.action is Action.CLEAN and rule.check == "number"
        return Fate(write, lasting=lasting, numbers=numbers, most=rule.most)

    def memory_of(self, encoding: str) -> dict[bytes, bytes]:
        """Return what is remembered of elements in an encoding; it never outgrows its bound."""
        memory = self._memory.setdefault(encoding, {})
        if len(memory) > self._remembered:
            memory.clear()
        return memory

    def _build(self, rule: Rule, action: Action, vr: bytes) -> Make | None:
        if action is Action.EMPTY:
            return lambda _value, _patient: b""
        if action is Action.DUMMY:
            dummy = dummy_of(vr)
            return lambda _value, _patient: dummy
        if action is Action.PSEUDONYM:
            return lambda _value, patient: patient.pseudonym
        if action is Action.UID:
            keep = rule.check == "kept"
            return lambda value, _patient: values.uids(value, self._key.uid, keep=keep)
        if action in (Action.CLEAN, Action.SHIFT):
            return self._proven(rule, action, vr)
        return None

    def _proven(self, rule: Rule, action: Action, vr: bytes) -> Make | None:
        instead = self._build(rule, rule.otherwise, vr)
        if action is Action.SHIFT:
            shift = values.shifted_date if vr == b"DA" else values.shifted_datetime

            def shifted(value: bytes, patient: Patient) -> bytes | None:
                moved = shift(value, patient.shift_days)
                return moved if moved is not None or instead is None else instead(value, patient)

            return shifted
        clean = _clean_of(rule, vr)
        if clean is None:
            return instead

        def proven(value: bytes, patient: Patient) -> bytes | None:
            kept = clean(value)
            return kept if kept is not None or instead is None else instead(value, patient)

        return proven


def dummy_of(vr: bytes) -> bytes:
    """Return the dummy value of a representation."""
    if vr in _NUMBERS or vr not in _TEXT:
        return DUMMY_BYTES * (values.SIZES.get(vr, 2) // 2 or 1)
    return values.pad(DUMMIES.get(vr, DUMMY_TEXT))


def _clean_of(rule: Rule, vr: bytes) -> values.Clean | None:
    special: dict[str, values.Clean | None] = {
        "temporal": values.temporal(vr),
        "age": values.age,
        "name": values.plain_name,
        "descriptor": values.descriptor,
    }
    if rule.check in special:
        return special[rule.check]
    return values.clean_for(rule.check, vr, rule.most)


class Walk:
    """One object's walk.

    Attributes:
        private: rules of safe private attributes of the top level.
        seen: tags that were met, at any depth; `removed` those of them of which nothing left.
        personal: what leaves depends on the patient.
    """

    def __init__(self, data: bytes, reader: Reader, syntax: Syntax, rules: Rules, patient: Patient) -> None:
        self._data = data
        self._reader = reader
        self._out = syntax
        self._rules = rules
        self._patient = patient
        self._memory = rules.memory_of(syntax.encoding)
        self.private: dict[int, Rule] = {}
        self.seen: set[int] = set()
        self.removed: set[int] = set()
        self.personal = False

    def elements(self, elements: Sequence[Element], source: Syntax, depth: int = 0) -> list[bytes]:
        """Return what leaves of some elements of one level, in ascending order.

        Raises:
            ObjectRefused: an attribute twice, or nested content that is not well-formed.
        """
        data, memory, private = self._data, self._memory, self.private
        remember = source is self._out
        out: list[bytes] = []
        for element in elements:
            tag, _, start, _, stop, items = element
            if items is None and remember and stop - start <= REMEMBERED_BYTES and tag not in private:
                encoded = data[start:stop]
                chunk = memory.get(encoded)
                if chunk is None:
                    chunk, lasting = self._element(element, source, depth)
                    if lasting:
                        memory[encoded] = chunk
            else:
                chunk, _ = self._element(element, source, depth)
            if chunk:
                out.append(chunk)
            else:
                self.removed.add(tag)
        return out

    def keep_private(self, elements: Sequence[Element], data: bytes = b"") -> None:
        """Let safe private attributes of the top level leave, by their creators (PS3.15 E.3.10).

        Args:
            elements: the top level, or all of it that are creators.
            data: where they lie, if not in this walk's header.
        """
        for element in elements:
            low = element.tag & 0xFFFF
            if element.tag & 1 << 16 and 0x10 <= low <= 0xFF and element.items is None:
                creator = (data or self._data)[element.value : element.stop].strip(b" \0")
                self.private |= safe_block(element.tag, creator)

    def ordered(self, elements: Sequence[Element], source: Syntax) -> Sequence[Element]:
        """Return the elements of one level by ascending tag.

        Raises:
            ObjectRefused: an attribute occurs twice, or one does not fit another.
        """
        tags = [element[0] for element in elements]
        unique = set(tags)
        if len(unique) != len(tags):
            raise refused(Reason.DUPLICATE)
        if not unique.isdisjoint(luts.TAGS):
            luts.check(elements, self._data, source.codec)
        self.seen |= unique
        return elements if tags == sorted(tags) else sorted(elements, key=itemgetter(0))

    def _element(self, element: Element, source: Syntax, depth: int) -> tuple[bytes, bool]:
        """Return what leaves, and whether it will always be the same for the same encoded bytes."""
        rule = self._rules.get(element.tag)
        if rule is None and depth == 0:
            rule = self.private.get(element.tag)
        if rule is None or rule.action in GONE:
            return b"", rule is None or rule.action is not Action.CONCEPT
        if rule.vrs[0] == b"SQ":
            return self._sequence(element, rule, source, depth), False
        if element.items is not None:
            return b"", False
        fate = self._rules.fate(rule, element.vr, self._out)
        self.personal |= not fate.lasting
        return fate.of(self._data[element.value : element.stop], self._patient), fate.lasting

    def _encoded(self, tag: int, vr: bytes, value: bytes) -> bytes:
        if vr in SHORT_VRS and len(value) > LONGEST_SHORT:
            return b""
        return self._out.header(tag, vr, len(value)) + value

    def _sequence(self, element: Element, rule: Rule, source: Syntax, depth: int) -> bytes:
        if rule.action is not Action.ITEMS:
            return self._out.header(element.tag, b"SQ", 0)
        wrapped = element.vr == b"UN"
        if wrapped and source.codec is not EXPLICIT_LITTLE.codec:
            return b""
        inner = IMPLICIT_LITTLE if wrapped else source
        if not wrapped and element.vr not in (b"", b"SQ"):
            return b""
        items = element.items
        if items is None:
            try:
                items = self._reader.items(element.value, element.stop, inner, depth + 1)
            except ObjectRefused:
                if wrapped:  # what does not read as a sequence is opaque, and goes
                    return b""
                raise
        if element.tag == CONTENT:
            items = [item for item in items if self._may_be_told(item, inner, depth + 2)]
        body = b"".join(map(partial(self._item, source=inner, depth=depth + 1), items))
        return self._out.header(element.tag, b"SQ", len(body)) + body

    def _may_be_told(self, elements: Sequence[Element], source: Syntax, depth: int) -> bool:
        """Tell whether a content item is coded, numeric or a reference (PS3.3 C.17.3); others go whole."""
        found = {element[0]: element for element in elements}
        kind = self._text(found[VALUE_TYPE]) if VALUE_TYPE in found else b""
        if kind != b"CODE":
            return kind in tables.words("value_type")
        code = found.get(CONCEPT_CODE)
        if code is None:
            return False
        items = code.items
        if items is None:
            items = self._reader.items(code.value, code.stop, source, depth)
        return len(items) == 1 and bool(self._concept(items[0]))

    def _item(self, elements: Sequence[Element], source: Syntax, depth: int) -> bytes:
        elements = self.ordered(elements, source)
        concept = self._concept(elements) if any(element[0] in _CONCEPT for element in elements) else b""
        before = [element for element in elements if element[0] < CODE_VALUE] if concept else []
        rest = elements[len(before) :]
        chunks = [*self.elements(before, source, depth), concept, *self.elements(rest, source, depth)]
        body = b"".join(chunks)
        return self._out.item(ITEM, len(body)) + body

    def _concept(self, elements: Sequence[Element]) -> bytes:
        """Return code, scheme and meaning of a public concept (PS3.3 8.8), or nothing."""
        found = {element[0]: element for element in elements if element[0] in _CONCEPT}
        if not {CODE_VALUE, CODING_SCHEME} <= found.keys():
            return b""
        code, scheme = (self._text(found[tag]) for tag in (CODE_VALUE, CODING_SCHEME))
        meaning = tables.codes().get((scheme, code))
        if meaning is None:
            return b""
        return (
            self._encoded(CODE_VALUE, b"SH", values.pad(code))
            + self._encoded(CODING_SCHEME, b"SH", values.pad(scheme))
            + self._encoded(CODE_MEANING, b"LO", values.pad(meaning))
        )

    def _text(self, element: Element) -> bytes:
        return self._data[element.value : element.stop].strip(b" \0")


def _representation(vr: bytes, rule: Rule) -> bytes:
    """Return the representation to write; empty if the one received cannot be right."""
    if not vr or vr == b"UN":
        return rule.vrs[0]
    if vr in rule.vrs:
        return vr
    return b"" if rule.action is Action.CLEAN else rule.vrs[0]


def safe_block(creator_tag: int, creator: bytes) -> dict[int, Rule]:
    """Return the rules of a block of safe private attributes and of its creator; none if it has none."""
    block = (creator_tag & 0xFFFF) << 8
    group = creator_tag & 0xFFFF0000
    found = {
        group | block | row.tag & 0xFF: kept(replace(row, tag=group | block | row.tag & 0xFF))
        for (tag, its_creator), row in tables.safe_private().items()
        if its_creator == creator and tag >> 8 == group >> 16
    }
    if found:
        name = f"label:{creator.decode('ascii')}"
        found[creator_tag] = kept(KeepRow(creator_tag, "Private Creator", (b"LO",), 1, name, "safe private"))
    return found
