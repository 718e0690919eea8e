"""What one writes with pynetdicom and pydicom in an afternoon: C-MOVE to oneself, de-identify, save.

    python -m benchmarks._naive OWN_PORT ARCHIVE_PORT STUDY SERIES DIRECTORY

De-identification is the example of pydicom's documentation with a few attributes more; it leaves most of
table E.1-1. It is an anchor of speed and no way to de-identify.
"""

import sys
from pathlib import Path

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, AllStoragePresentationContexts, evt
from pynetdicom.sop_class import StudyRootQueryRetrieveInformationModelMove

TITLE, ARCHIVE = "NAIVE", "PACS"
REMOVED = ("OtherPatientIDs", "AccessionNumber", "StudyDescription", "SeriesDescription", "InstitutionName")


def clean(dataset: Dataset) -> None:
    """Take out what comes to mind."""

    def names(_: Dataset, element) -> None:
        if element.VR == "PN":
            element.value = "anonymous"

    dataset.remove_private_tags()
    dataset.walk(names)
    dataset.PatientID = "id"
    dataset.PatientBirthDate = ""
    for keyword in REMOVED:
        if keyword in dataset:
            delattr(dataset, keyword)


def main(own_port: int, archive_port: int, study: str, series: str, directory: Path) -> None:
    def take(event: evt.Event) -> int:
        dataset = event.dataset
        dataset.file_meta = event.file_meta
        clean(dataset)
        dataset.save_as(directory / f"{generate_uid()}.dcm", enforce_file_format=True)
        return 0x0000

    receiver = AE(ae_title=TITLE)
    for context in AllStoragePresentationContexts:
        receiver.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
    server = receiver.start_server(
        ("127.0.0.1", own_port), block=False, evt_handlers=[(evt.EVT_C_STORE, take)]
    )
    asking = AE(ae_title=TITLE)
    asking.add_requested_context(StudyRootQueryRetrieveInformationModelMove)
    association = asking.associate("127.0.0.1", archive_port, ae_title=ARCHIVE)
    wanted = Dataset()
    wanted.QueryRetrieveLevel = "SERIES"
    wanted.StudyInstanceUID = study
    wanted.SeriesInstanceUID = series
    for _ in association.send_c_move(wanted, TITLE, StudyRootQueryRetrieveInformationModelMove):
        pass
    association.release()
    server.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], Path(sys.argv[5]))
