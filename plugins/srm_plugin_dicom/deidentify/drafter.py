"""Drafts what may leave of one object: opens it, decides whether it may leave, walks it.

A draft depends on the object, the project's key and the profile alone. Its parts come in order; pixel data
are views of the input, never copies. It goes nowhere before the independent check (see `engine`). Of an
object that is too large for memory (`view`) the pixels are made while they are written.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from operator import itemgetter
from typing import cast

from srm_plugin_dicom.deidentify import blank, frames, large, part10
from srm_plugin_dicom.deidentify import facts as f
from srm_plugin_dicom.deidentify.deciding import Decisions
from srm_plugin_dicom.deidentify.draft import Draft, Held, encoded, statement
from srm_plugin_dicom.deidentify.elements import Element, Limits, Reader
from srm_plugin_dicom.deidentify.example import Example
from srm_plugin_dicom.deidentify.facts import Facts
from srm_plugin_dicom.deidentify.keyed import ProjectKey
from srm_plugin_dicom.deidentify.learnt import Learnt
from srm_plugin_dicom.deidentify.options import Option
from srm_plugin_dicom.deidentify.pixels import PixelPolicy
from srm_plugin_dicom.deidentify.profile import Profile
from srm_plugin_dicom.deidentify.reasons import Reason, refused
from srm_plugin_dicom.deidentify.series import Received, SeriesNeeded
from srm_plugin_dicom.deidentify.syntax import EXPLICIT_LITTLE, PIXEL_DATA, Syntax
from srm_plugin_dicom.deidentify.view import Part, View, Viewed
from srm_plugin_dicom.deidentify.walk import Rules, Walk

_PIXEL_GROUP = 0x7FE00000
_FLOATS = (0x7FE00008, 0x7FE00009)
_TAG = itemgetter(0)
_PIXELS = frozenset((*_FLOATS, PIXEL_DATA))
_MOST_ATTRIBUTES = 10_000
"""That an object may have, each told of in its report. The data dictionary has half as many, and what a
worker says of a file has to fit into a packet. A header with more is too long for a plan."""


class Drafter:
    """Drafts objects of one profile, project and policy, from any thread."""

    def __init__(self, profile: Profile, key: ProjectKey, policy: PixelPolicy, limits: Limits) -> None:
        self._profile = profile
        self._limits = limits
        self._rules = Rules(profile, key)
        self._decisions = Decisions(profile, key, policy)
        self._learnt = Learnt(self._rules, self._decisions, limits)

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
        draft = None if in_series else self._learnt.draft(received.data, received)
        if draft:
            return draft
        opened = part10.open_object(received.data, received.transfer_syntax, self._limits)
        reader = Reader(opened.data, self._limits)
        elements = reader.data_set(opened.start, opened.source)
        header = bytes(opened.data[: _header_end(elements, len(opened.data))])
        facts = Facts.of(header, elements, opened.syntax)
        if self._decisions.admit(facts, received.names) is not in_series:
            if in_series:
                raise refused(Reason.RECOGNIZABLE, "not of the volume")
            raise SeriesNeeded(facts.raw(f.SERIES_INSTANCE))
        view = memoryview(opened.data)
        draft = self._walked(opened, reader, elements, facts, view, in_series=in_series)
        if not in_series and Option.PIXELS not in draft.options:
            self._learnt.learn(Example.of(opened, received.transfer_syntax, elements, facts), draft)
        return draft

    def _draft_large(self, view: View, received: Received) -> Draft:
        """Return the draft of an object of which no more than the header is in memory."""
        opened, reader, elements = large.read(view, received.transfer_syntax, self._limits)
        header = bytes(opened.data[: _header_end(elements, len(opened.data))])
        facts = Facts.of(header, elements, opened.syntax)
        if self._decisions.admit(facts, received.names):
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
        rectangles = self._decisions.rectangles(facts)
        native = bool(rectangles) or in_series
        out = EXPLICIT_LITTLE if native and opened.syntax.pixels else opened.syntax
        walk = Walk(facts.data, reader, out, self._rules, self._decisions.patient(facts))
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
                stated |= {tag: encoded(out, tag, *value) for tag, value in blanked.changes.items()}
            elif element.tag == PIXEL_DATA and out.pixels:
                pixels = frames.encapsulated(element, view, facts, out)
            else:
                pixels = iter(frames.native(element, view, facts, out))
            made.append(pixels if isinstance(view, View) else list(pixels))
        options = self._profile.options + ((Option.PIXELS,) if rectangles and stated else ())
        if in_series:
            options += (Option.FEATURES,)
            stated[f.RECOGNIZABLE] = encoded(out, f.RECOGNIZABLE, b"CS", b"NO")
        stated |= statement(out, self._profile, options)
        body = _merged(walk, ordered[:first_pixel], opened.source, stated)
        if len(walk.seen) > _MOST_ATTRIBUTES:
            raise refused(Reason.TOO_LARGE, "attributes")
        later = chain.from_iterable(made) if isinstance(view, View) else None
        return Draft(
            [body, *(() if later else cast("Iterable[Held]", chain.from_iterable(made)))],
            out,
            options,
            walk.seen,
            walk.removed,
            facts.raw(f.SOP_CLASS),
            self._decisions.instance(facts.raw(f.SOP_INSTANCE)),
            facts,
            facts.data[opened.start :],
            opened.source,
            later,
        )


def _merged(walk: Walk, elements: Sequence[Element], source: Syntax, stated: Mapping[int, bytes]) -> bytes:
    """Return cleaned elements with what is stated in its places, instead of what stood there."""
    chunks: list[bytes] = []
    at = 0
    for tag, said in sorted(stated.items()):
        stop = _index(elements, tag)
        chunks += walk.elements(elements[at:stop], source)
        chunks.append(said)
        at = stop + (stop < len(elements) and elements[stop].tag == tag)
    return b"".join((*chunks, *walk.elements(elements[at:], source)))


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
