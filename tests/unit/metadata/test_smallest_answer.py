"""A search that would point at a few people finds nobody, unless its caller may know who they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mdm_metadata.dispatch import Dispatcher
from mdm_metadata.settings import MetadataSettings
from mdm_metadata.tree import Collections
from srm_dicom.audit.log import AuditLog
from srm_dicom.clock import SystemClock
from srm_dicom.db.database import Database
from srm_dicom.identity.principal import Principal
from srm_dicom.testing.databases import database_url

END = datetime(2040, 1, 1, tzinfo=UTC)
WHERE = "/mdm/heart"
REGISTRAR, FINDER, PHYSICIAN = (Principal(f"/CN={name}", (), False, END) for name in ("reg", "find", "phys"))
Ask = Callable[..., bytes]


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Ask]:
    """Say a command as somebody; ten images of each of six people, the sixth alone with a rare one."""
    clock = SystemClock()
    database, audit = Database(database_url(tmp_path, "m")), AuditLog(tmp_path / "a", "m", "here", clock)
    settings = MetadataSettings("", registrars=(REGISTRAR.dn,), smallest_answer=5)
    dispatcher = Dispatcher(Collections(database), settings, audit, clock)

    def say(who: Principal, *words: str) -> bytes:
        return dispatcher.answer(dispatcher.session(who), who, list(words)).data

    end = (datetime.now(UTC) + timedelta(days=9)).isoformat()
    for words in (
        ("createdir", "/mdm", "plain"),
        ("createdir", WHERE, "plain"),
        ("addattr", WHERE, "Modality", "varchar(16)"),
        ("addattr", WHERE, "Rows", "int"),
        ("addnominative", WHERE, "PatientID", "varchar(64)"),
        ("setacl", WHERE, f'user:"{FINDER.dn}":r,user:"{PHYSICIAN.dn}":rn'),
        ("setvalidity", WHERE, end),
    ):
        assert say(REGISTRAR, *words).startswith(b"0"), words
    for person in range(6):
        for image in range(10):
            modality = "PT" if person == 5 and image == 0 else "MR"
            values = ("Modality", modality, "Rows", str(100 * person), "PatientID", f"p{person}")
            assert say(REGISTRAR, "addentry", f"{WHERE}/i{person}{image}", *values).startswith(b"0")
    yield say
    database.close()
    audit.close()


def found(answer: bytes) -> int:
    assert answer.startswith(b"0")
    return answer.count(b"i")


SEARCHES = [("find", WHERE, "{}"), ("selectattr", f"{WHERE}:FILE", "{}"), ("findall", "{}")]


@pytest.mark.parametrize("words", SEARCHES)
@pytest.mark.parametrize(
    ("condition", "people"),
    [
        ('Modality = "PT"', 1),
        ("Rows > 150", 4),
        ("Rows > 50", 5),
        ('Modality = "MR"', 6),
        ('Modality = "CT"', 0),
        ('Modality = "PT" limit 1', 1),
    ],
)
def test_people_are_counted_and_not_images(
    ask: Ask, words: tuple[str, ...], condition: str, people: int
) -> None:
    said = [word.format(condition) for word in words]
    assert bool(found(ask(FINDER, *said))) == (people >= 5)
    assert bool(found(ask(PHYSICIAN, *said))) == (people >= 1)


def test_too_few_and_none_are_one_answer(ask: Ask) -> None:
    few, none = (ask(FINDER, "find", WHERE, f'Modality = "{value}"') for value in ("PT", "XX"))
    assert few == none


def test_a_list_of_everything_singles_nobody_out(ask: Ask) -> None:
    assert found(ask(FINDER, "find", WHERE)) == 60
