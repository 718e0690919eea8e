"""Walks an archive by its queries from studies down to images, and filters every answer again."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from srm_plugin_dicom.archive import Archive, Asking
from srm_plugin_dicom.selector import UNIQUE, Level, Selector

Header = dict[str, str]

_NEWEST_DAYS = (0, 30, 365)


def walk(archive: Archive, selector: Selector) -> Iterator[Header]:
    """Yield one header for each image that the selector means: what the three levels told of it.

    The association is closed before anything is yielded, so the caller may take its time.
    """
    with archive.session() as session:
        studies = _answers(session, selector, Level.STUDY, {})
    for study in studies:
        with archive.session() as session:
            images = list(_images(session, selector, study))
        yield from images


def any_image(archive: Archive, now: datetime) -> Header | None:
    """Return some image of the PACS; None when it has none.

    It is looked for among the newest first: a PACS would tell of all its studies, which may be millions.
    """
    since = [f"{now - timedelta(days):%Y%m%d}-" for days in _NEWEST_DAYS]
    with archive.session() as session:
        for keys in (*({"StudyDate": date} for date in since), {}):
            selector = Selector("", keys)
            for study in _answers(session, selector, Level.STUDY, {}):
                for image in _images(session, selector, study):
                    return image
    return None


def _images(session: Asking, selector: Selector, study: Header) -> Iterator[Header]:
    for series in _answers(session, selector, Level.SERIES, study):
        yield from _answers(session, selector, Level.IMAGE, series)


def _answers(session: Asking, selector: Selector, level: Level, above: Header) -> list[Header]:
    """Return the answers at a level, each with what the levels above told (PS3.4, C.4.1.3.1).

    One that is of something else there would be registered for another patient.
    """
    unique = {key: above[key] for key in UNIQUE.values() if key in above}
    found = session.find(level, selector.query(level) | unique)
    return [
        above | answer
        for answer in found
        if UNIQUE[level] in answer
        and all(answer.get(key, uid) == uid for key, uid in unique.items())
        and selector.matches(level, answer)
    ]
