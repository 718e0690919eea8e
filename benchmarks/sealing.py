"""Sealing one CT slice (531 KB): this program's two passes beside the stock crypt4gh package.

The stock package makes one pass with random keys; ours authenticates the clear bytes first, so that
the same file gets the same bytes. Rounds of both alternate; the medians are compared.
"""

import io
import secrets
import statistics
import time
from collections.abc import Callable, Iterator

from crypt4gh import lib as stock
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from srm_dicom.crypto import crypt4gh, siv
from srm_dicom.crypto.digest import Digest
from srm_dicom.ids import Guid

OBJECT_BYTES = 531_000
ROUNDS = 15
OBJECTS = 20
GUID = Guid("6f9619ff-8b86-4d01-b42d-00c04fc964ff")


def run() -> dict[str, float]:
    """Return objects per second of each way and ours in relation to the stock package."""
    clear = secrets.token_bytes(OBJECT_BYTES)
    reader = X25519PrivateKey.generate()
    public_key = reader.public_key().public_bytes_raw()
    writer_key = secrets.token_bytes(32)
    seal_key = secrets.token_bytes(32)

    def ours() -> None:
        digest, sink = Digest(), io.BytesIO()
        for part in _sealed(clear, seal_key, public_key):
            digest.update(part)
            sink.write(part)

    def ours_without_digest() -> None:
        sink = io.BytesIO()
        for part in _sealed(clear, seal_key, public_key):
            sink.write(part)

    def package() -> None:
        stock.encrypt([(0, writer_key, public_key)], io.BytesIO(clear), io.BytesIO())

    file = b"".join(_sealed(clear, seal_key, public_key))
    private_key = reader.private_bytes_raw()

    def opening() -> None:
        header = crypt4gh.Header.parse(file)
        layout = crypt4gh.Layout(len(file))
        siv.verified_reader(header.open(private_key), layout).update(memoryview(file)[layout.header_bytes :])

    def package_opening() -> None:
        stock.decrypt([(0, private_key, None)], io.BytesIO(file), io.BytesIO())

    rates = interleaved(
        {
            "seal": ours_without_digest,
            "seal and digest": ours,
            "seal, stock package": package,
            "open, verified": opening,
            "open, stock package": package_opening,
        }
    )
    rates["seal / stock"] = rates["seal"] / rates["seal, stock package"]
    rates["open / stock"] = rates["open, verified"] / rates["open, stock package"]
    return rates


def interleaved(ways: dict[str, Callable[[], None]]) -> dict[str, float]:
    """Return the median calls per second of each way; rounds alternate, so that all see the same machine."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, call in ways.items():
            start = time.perf_counter()
            for _ in range(OBJECTS):
                call()
            seconds[name].append((time.perf_counter() - start) / OBJECTS)
    return {name: 1 / statistics.median(values) for name, values in seconds.items()}


def _sealed(clear: bytes, seal_key: bytes, public_key: bytes) -> Iterator[bytes | bytearray]:
    sealer = siv.Sealer(seal_key, GUID, public_key)
    sealer.absorb(clear)
    yield from sealer.seal().file([clear])


def main() -> None:
    """Print the table."""
    for name, value in run().items():
        print(f"{name:22} {value:10,.2f}" if "/" in name else f"{name:22} {value:10,.0f} objects/s")


if __name__ == "__main__":
    main()
