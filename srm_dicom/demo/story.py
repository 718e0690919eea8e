"""The story of the demo, told while it happens; every sentence is said after it has been seen to be true.

images arrive -> registered -> found -> asked for -> moved, de-identified, sealed, staged ->
fetched -> key rebuilt although a key server is down -> opened -> the same pixels, nobody's name
"""

from __future__ import annotations

import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from srm_dicom.client.files import FileRecord
from srm_dicom.client.library import Client, Got
from srm_dicom.client.metadata import Found
from srm_dicom.client.progress import watcher_of
from srm_dicom.demo.site import GRANTS, DemoSite
from srm_dicom.errors import IntegrityError, MdmError, NotFound, RequestExpired
from srm_dicom.testing.images import Patient, SeriesSpec, make_series
from srm_dicom.testing.pacs import PacsSimulator
from srm_dicom.testing.pixels import Image, identity_in, same_pixels

REGISTER_S = 90.0
EVERYTHING = "Modality is not null"
CT = 'Modality = "CT"'
SERIES = (
    SeriesSpec("CT", 24, Patient("CANARY^ALICE", "CANARY-1"), study="1", rows=256, columns=256),
    SeriesSpec("MR", 16, Patient("CANARY^BOB", "CANARY-2"), study="2", rows=128, columns=128),
    SeriesSpec("PT", 12, Patient("CANARY^ALICE", "CANARY-1"), study="1", number=2, rows=128, columns=128),
)
"""What the hospital's scanners make today; every identifying text holds CANARY."""


def play(directory: Path | None, *, keep: bool, console: Console) -> None:
    """Play the story.

    Args:
        directory: where the site goes; by default a temporary one.
        keep: go on serving afterwards, until interrupted.
        console: where it is told.

    Raises:
        IntegrityError: something that the story tells was not true.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: no process of the site is left behind
        signal.signal(number, signal.default_int_handler)
    with ExitStack() as leaving:
        if directory is None:
            directory = Path(leaving.enter_context(tempfile.TemporaryDirectory(prefix="srm-dicom-")))
        Story(directory.resolve(), console, leaving).tell(keep=keep)


class Story:
    """One telling; the site and the PACS live as long as `leaving`."""

    def __init__(self, directory: Path, console: Console, leaving: ExitStack) -> None:
        self._site = DemoSite(directory)
        self._console = console
        self._leaving = leaving
        self._images: list[Image] = []
        self._step = 0

    def tell(self, *, keep: bool) -> None:
        """Tell everything."""
        started = time.monotonic()
        self._console.print(Panel.fit("[bold]srm-dicom[/]: from the PACS to the grid, and nobody's name"))
        pacs = self._open()
        self._arrive(pacs)
        with self._as("researcher") as client:
            found = self._find(client)
            self._site.processes.stop("keys-2", signal.SIGKILL)
            self._say("One of the three key servers is killed", "two shares of three are enough")
            got = self._get(client)
        self._prove(got)
        self._meet_the_others(got[0].record)
        self._console.print(rights_table())
        self._console.print(f"\nTold in {time.monotonic() - started:.0f} s.\n")
        if keep:
            self._keep(found)

    # --- the chapters ----------------------------------------------------------------------------

    def _open(self) -> PacsSimulator:
        with self._console.status("making certificates, starting nine processes"):
            self._site.write()
            pacs = PacsSimulator(self._site.archive.ae_title, port=self._site.archive.port)
            pacs.destinations = {"MDM1": ("127.0.0.1", self._site.ports["moves"])}
            pacs.forward_to = ("MDMIN", "127.0.0.1", self._site.ports["arrivals"])
            self._leaving.enter_context(pacs)
            self._leaving.callback(self._site.stop)
            self._site.start()
        self._say(
            "A hospital opens",
            "a PACS; a storage server in two zones; three key servers; a file and a metadata catalogue",
        )
        return pacs

    def _arrive(self, pacs: PacsSimulator) -> None:
        self._images = [image for spec in SERIES for image in make_series(spec)]
        pacs.add(self._images, forward=True)
        with self._as("researcher") as client, self._bar("registering", len(self._images)) as advance:
            until = time.monotonic() + REGISTER_S
            while (count := len(_nothing_yet(client))) < len(self._images):
                advance(count)
                if time.monotonic() > until:
                    raise RequestExpired(
                        f"only {count} of {len(self._images)} images were registered in time"
                    )
                time.sleep(0.3)
        self._say(
            f"{len(self._images)} images arrive",
            "registered by name, key and metadata as the PACS forwards them",
        )

    def _find(self, client: Client) -> list[Found]:
        found = client.find(CT, ["Modality", "Rows", "SliceThickness"])
        self._say(f"The researcher finds {len(found)} slices", f"mdm find '{CT}'")
        self._quote(str(found[0]["lfn"]))
        return found

    def _get(self, client: Client) -> list[Got]:
        with self._bars() as progress:
            results = list(client.get([CT], self._out("researcher"), watcher=watcher_of(progress)))
        _expect(all(got.error is None for got in results), "every slice was fetched and opened")
        self._say(
            f"{len(results)} slices are fetched",
            "prepareToGet, one C-MOVE, de-identified, sealed, staged, GridFTP, key rebuilt, opened",
        )
        return results

    def _prove(self, got: Sequence[Got]) -> None:
        files = [result.path for result in got if result.path]
        originals = [image for image in self._images if image.Modality == "CT"]
        _expect(same_pixels(originals, files), "the pixels are the same")
        _expect(not identity_in(files), "no identity is in the files")
        sealed = list((self._site.directory / "outer" / "scratch").rglob("ready/*/*"))
        _expect(not identity_in(sealed), "no identity is in scratch")
        self._say("The pixels are the same, bit for bit", "and nothing of the patient is in the files")

    def _meet_the_others(self, record: FileRecord) -> None:
        with self._as("replica-manager") as client:
            self._replicate(client, record)
        with self._as("stranger") as client:
            self._wonder(client, record)
        with self._as("physician") as client:
            self._recognise(client)

    def _replicate(self, client: Client, record: FileRecord) -> None:
        results = list(client.get([f"guid:{record.guid}"], self._out("replica-manager"), sealed=True))
        _expect(results[0].path is not None, "the replica manager has the ciphertext")
        refusal = _refusal(lambda: client.key(record))
        self._say("The replica manager copies ciphertext", f"and gets no key: {refusal.message}")

    def _wonder(self, client: Client, record: FileRecord) -> None:
        refusal = _refusal(lambda: client.resolve([f"guid:{record.guid}"]))
        _expect(isinstance(refusal, NotFound), "the stranger does not learn that the file exists")
        same = _refusal(lambda: client.srm.ls(record.surls[0], levels=0))
        _expect(isinstance(same, NotFound), "the storage server says the same")
        self._say("The stranger does not learn that the file exists", refusal.message)

    def _recognise(self, client: Client) -> None:
        row = client.find(CT, ["PatientName"], limit=1)[0]
        self._say("The physician also knows who it is", f"{row['PatientName']}, who does not exist")

    def _keep(self, found: Sequence[Found]) -> None:
        sample = found[0]
        self._site.processes.start(*(unit for unit in self._site.units() if unit.name == "keys-2"))
        self._site.describe(
            {"samples": {"surl": sample["surl"], "lfn": sample["lfn"], "guid": sample["guid"]}}
        )
        directory = self._site.directory
        self._console.print("The site goes on serving. In another terminal:\n")
        for line in (
            f"source {directory}/env.sh",
            f"gfal-ls -l {sample['surl']}",
            f"gfal-copy {sample['surl']} file:///tmp/slice.c4gh",
            f"mdm key {sample['lfn']} -o /tmp/slice.key",
            "crypt4gh decrypt --sk /tmp/slice.key < /tmp/slice.c4gh > /tmp/slice.dcm",
            f"mdm get '{CT}' -o /tmp/series",
        ):
            self._console.print(f"  {line}", soft_wrap=True, highlight=False)
        self._console.print("\nCtrl-C ends it.")
        with suppress(KeyboardInterrupt):
            threading.Event().wait()

    # --- telling ---------------------------------------------------------------------------------

    def _say(self, what: str, how: str) -> None:
        self._step += 1
        self._console.print(f"[bold cyan]{self._step:2}[/] [bold]{what}[/]", highlight=False)
        self._console.print(f"   [dim]{how}[/]", highlight=False, soft_wrap=True)

    def _quote(self, text: str) -> None:
        self._console.print(f"   [dim]{text}[/]", highlight=False, soft_wrap=True)

    def _out(self, user: str) -> Path:
        return self._site.directory / "out" / user

    @contextmanager
    def _as(self, user: str) -> Iterator[Client]:
        with Client(self._site.description, self._site.users[user]) as client:
            yield client

    @contextmanager
    def _bars(self) -> Iterator[Progress]:
        columns = (
            TextColumn("   {task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(
            *columns, console=self._console, transient=True, disable=not self._console.is_terminal
        ) as progress:
            yield progress

    @contextmanager
    def _bar(self, what: str, total: int) -> Iterator[Callable[[int], None]]:
        with self._bars() as progress:
            task = progress.add_task(what, total=total)
            yield lambda count: progress.update(task, completed=count)


def rights_table() -> Table:
    """Return who may do what, as the demo grants it."""
    table = Table("user", "file", "key", "search", "nominative", box=None)
    for user, rights in GRANTS.items():
        table.add_row(
            user, *("yes" if right in rights else "-" for right in ("file", "key", "search", "nominative"))
        )
    return table


def _nothing_yet(client: Client) -> Sequence[Found]:
    """Return what can be found so far; before the first registration there is nothing to search in."""
    try:
        return client.find(EVERYTHING)
    except NotFound:
        return ()


def _refusal(call: Callable[[], object]) -> MdmError:
    try:
        call()
    except MdmError as error:
        return error
    raise IntegrityError("what should have been refused was not")


def _expect(truth: bool, what: str) -> None:
    """Fail the demo when a sentence of the story is not true."""
    if not truth:
        raise IntegrityError(f"not true: {what}")
