"""Credential files that are unusual or useless, and the lists of the site that the caller is asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from srm_dicom.identity.credential import Credential
from srm_dicom.testing.cases.case import Case, Make, bad, good
from srm_dicom.testing.cases.workshop import (
    ALICE,
    Workshop,
    pem_of,
)
from srm_dicom.testing.certificates import (
    read_credential,
)


def file(change: Callable[[bytes, bytes], bytes]) -> Make:
    """Write certificate and key of the user into one file in some other way."""

    def make(shop: Workshop) -> Credential:
        alice = shop.pki.user("Alice")
        return shop.save_bytes(change(alice.certificate.read_bytes(), alice.key.read_bytes()))

    return make


def _encrypted(shop: Workshop) -> Credential:
    chain, key = read_credential(shop.alice())
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    return shop.save_bytes(pem_of(chain[0]) + secret)


def _der(shop: Workshop) -> Credential:
    return shop.save_bytes(read_credential(shop.alice())[0][0].public_bytes(Encoding.DER))


def _key_of_another(shop: Workshop) -> Credential:
    return shop.save_bytes(
        shop.pki.user("Alice").certificate.read_bytes() + shop.pki.user("Bob").key.read_bytes()
    )


def listed(setting: str, text: str) -> Make:
    """Give the gate a ban or admission list."""

    def make(shop: Workshop) -> Credential:
        path = shop.new_path()
        path.write_text(text)
        shop.settings[setting] = path
        return shop.below(shop.alice())

    return make


def _missing_list(shop: Workshop) -> Credential:
    shop.settings["ban_file"] = shop.directory / "not-there"
    return shop.alice()


CASES: Mapping[str, Case] = {
    "key before the certificate": good(file(lambda certificate, key: key + certificate)),
    "lines of DOS": good(file(lambda certificate, key: (certificate + key).replace(b"\n", b"\r\n"))),
    "text between": good(file(lambda certificate, key: b"subject=x\n" + certificate + b"issuer=y\n" + key)),
    "banned is somebody else": good(listed("ban_file", '# none\n"/DC=test/DC=mdm/CN=Bob"\n')),
    "admitted": good(listed("admission_file", f'"/CN=x" x\n"{ALICE}" alice,.pool # yes\n')),
    "admitted with the others": good(listed("admission_file", "/DC=test/* .pool\n")),
    "empty file": bad(file(lambda *_: b""), "no certificate in it"),
    "junk": bad(file(lambda *_: b"\xff\x00" * 500), "no certificate in it"),
    "certificate alone": bad(file(lambda certificate, _: certificate), "no private key in it"),
    "key alone": bad(file(lambda _, key: key), "no certificate in it"),
    "cut off": bad(file(lambda certificate, key: certificate[:200] + key), "cannot be shown"),
    "huge": bad(file(lambda *_: b"x" * 2**21), "more than"),
    "key of another": bad(_key_of_another, "key values mismatch"),
    "encrypted key": bad(_encrypted, "encrypted"),
    "DER": bad(_der, "no private key in it"),
    "banned": bad(listed("ban_file", f'"{ALICE}"'), "banned here"),
    "banned below": bad(listed("ban_file", '# all of them\n"/DC=test/DC=mdm/*"'), "banned here"),
    "banned authority": bad(listed("ban_file", 'authority "/DC=test/DC=mdm/CN=MDM Test CA"'), "banned here"),
    "ban list that cannot be read": bad(listed("ban_file", "/DC=test/DC=mdm/CN=Bob"), "nobody is let in"),
    "ban list that is not there": bad(_missing_list, "nobody is let in"),
    "not admitted": bad(listed("admission_file", f'"{ALICE}/CN=1" alice\n'), "admission list"),
    "admission list that cannot be read": bad(listed("admission_file", '"\n'), "nobody is let in"),
}
