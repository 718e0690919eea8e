"""What comes under the name of a wanted image has to be that image: its own UIDs decide, not the command's.

An archive that mixes up its objects, or somebody who speaks as one, may not have another patient's image
published as the wanted file, by whichever way it comes.
"""

import copy
import sys
from pathlib import Path

import pytest

from srm_dicom.broker.states import ACTIVE
from srm_dicom.broker.views import FileState
from srm_dicom.errors import ObjectRefused
from srm_dicom.scratch.workshop import Workshop
from srm_dicom.testing.images import CANARY, SeriesSpec, identities, make_series, uid_of
from srm_dicom.testing.pacs import Misnamed
from srm_plugin_dicom.checkpoint import Entity
from srm_plugin_dicom.deidentify.reasons import Reason

IMAGES = 6
TAKEN, ANOTHER = 0x0000, 0xA900


def of_another(keyword, value=None):
    """Return what makes an image another one by one UID."""

    def change(image):
        setattr(image, keyword, value or uid_of("another", keyword))
        return image

    return change


def without(keyword):
    def change(image):
        delattr(image, keyword)
        return image

    return change


OTHERS = {
    "patient": lambda _image: make_series(SeriesSpec("CT", 1, study="77"))[0],
    "instance": of_another("SOPInstanceUID"),
    "series": of_another("SeriesInstanceUID"),
    "study": of_another("StudyInstanceUID"),
    "no series": without("SeriesInstanceUID"),
    "no study": without("StudyInstanceUID"),
    "class": of_another("SOPClassUID", "1.2.840.10008.5.1.4.1.1.4"),
}


@pytest.fixture
def workshop(staging, wait_for):
    command = (sys.executable, "-m", "srm_dicom.daemon.worker")
    rest = {"seal_key": staging.seal_key, "modules": ["srm_plugin_dicom.plugin"]}
    rest |= {"attended_bytes": 8 * 1024 * 1024, "begin": staging.area.begin}
    workshop = Workshop(command, 1, room_bytes=16 * 1024 * 1024, **rest)
    workshop.start()
    wait_for(lambda: workshop.idle)
    yield workshop
    workshop.stop()


@pytest.mark.parametrize("way", ["move", "get", "workers"])
def test_an_archive_that_sends_another_object_under_the_name(staging, pacs, wait_for, capfd, request, way):
    """The first one comes before anything is known of such images, the others when much is."""
    images = make_series(SeriesSpec("CT", IMAGES + 2 * len(OTHERS)))
    pacs.add(images)
    (files,) = staging.register()
    last = images[-len(OTHERS) :]
    for number, other in enumerate(OTHERS.values()):
        for image in (images[number], last[number]):
            pacs.faults.instead[str(image.SOPInstanceUID)] = other(copy.deepcopy(image))
    if way == "get":
        staging.change_settings('name = "archive"', 'name = "archive"\nretrieve = "get"')
    workshop = request.getfixturevalue("workshop") if way == "workers" else None
    with staging.stager(workshop=workshop):
        token = staging.want("/CN=Alice", files)
        wait_for(lambda: not staging.states(token) & set(ACTIVE))
    rows = {row.guid: row for row in staging.stores.requests.files(token)}
    misnamed = [*files[: len(OTHERS)], *files[-len(OTHERS) :]]
    assert [guid for guid in files if rows[guid].state is FileState.FAILED] == misnamed
    for guid in misnamed:
        assert isinstance(rows[guid].failure, ObjectRefused)
        assert rows[guid].failure.message == Reason.ANOTHER.value
    assert sorted(item.guid for item in staging.staged()) == sorted(set(files) - set(misnamed))
    for guid in set(files) - set(misnamed):
        assert b"CT" in staging.opened(guid)
    trails = [path for path in staging.common.config.audit.rglob("*") if path.is_file()]
    told = b"".join([*map(Path.read_bytes, trails), "".join(capfd.readouterr()).encode()])
    others = [*images, *pacs.faults.instead.values()]
    assert not [identity for identity in identities(others) if identity in told]
    assert b"another_object_came" in told
    assert Reason.ANOTHER.value.encode() in told


def test_a_sender_hears_that_it_sent_another_object(staging, pacs, wait_for):
    images, others = make_series(SeriesSpec("CT", 2)), make_series(SeriesSpec("CT", 1, study="77"))
    pacs.add(images)
    (files,) = staging.register()
    pacs.faults.recall_s = {str(images[0].StudyInstanceUID): 60.0}
    with staging.stager():
        token = staging.want("/CN=Alice", files)
        wait_for(lambda: pacs.moves)
        entity = Entity(ae_title="PACS")
        entity.add_requested_context(images[0].SOPClassUID, images[0].file_meta.TransferSyntaxUID)
        association = entity.associate("127.0.0.1", staging.demo.ports["moves"], ae_title="MDM1")
        statuses = [
            association.send_c_store(each).Status for each in (Misnamed(others[0], images[0]), images[1])
        ]
        association.release()
        assert statuses == [ANOTHER, TAKEN]
        pacs.faults.recall_s.clear()
        wait_for(lambda: not staging.states(token) & set(ACTIVE))
    assert staging.states(token) == {FileState.PINNED, FileState.FAILED}
    assert CANARY not in str([row.failure for row in staging.stores.requests.files(token)])
