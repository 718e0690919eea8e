import pytest
from hypothesis import given
from hypothesis import strategies as st

from srm_dicom.errors import InvalidRequest
from srm_dicom.wire.httpg import Opening, der_size, opening, origin_form


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (b"0", (Opening.HTTPG, b"")),
        (
            b"0POST / HTTP/1.1\r\n",
            (Opening.HTTPG, b"POST / HTTP/1.1\r\n"),
        ),  # TLS 1.3 clients send both at once
        (b"D", (Opening.HTTPG_DELEGATING, b"")),
        (b"DELETE /x HTTP/1.1\r\n", (Opening.HTTPS, b"DELETE /x HTTP/1.1\r\n")),
        (b"GET / HTTP/1.1\r\n", (Opening.HTTPS, b"GET / HTTP/1.1\r\n")),
        (b"", (Opening.HTTPS, b"")),
    ],
)
def test_the_first_record_tells_how_a_client_begins(record, expected):
    assert opening(record) == expected


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        (b"/srm/managerv2", b"/srm/managerv2"),
        (b"/srm/managerv2?wsdl", b"/srm/managerv2?wsdl"),
        (b"httpg://localhost:8446/srm/managerv2", b"/srm/managerv2"),
        (b"HTTPS://h/a%20b?c", b"/a%20b?c"),
        (b"https://h", b"/"),
        (b"https://h?wsdl", b"/?wsdl"),
        (b"*", b"*"),
    ],
)
def test_targets_are_brought_to_the_origin_form(target, expected):
    assert origin_form(target) == expected


@pytest.mark.parametrize(
    "target", [b"", b"host:443", b"ftp://h/x", b"https:///x", b"x", b"/%", b"/%4", b"/%zz"]
)
def test_other_targets_are_refused(target):
    with pytest.raises(InvalidRequest):
        origin_form(target)


@given(st.binary(max_size=60))
def test_what_is_accepted_as_target_is_a_path(target):
    try:
        accepted = origin_form(target)
    except InvalidRequest:
        return
    assert accepted == b"*" or accepted.startswith(b"/")
    assert origin_form(accepted) == accepted or accepted.startswith(b"//")


@given(st.integers(0, 0xFFFF))
def test_der_size_counts_header_and_value(size):
    octets = 0 if size < 0x80 else 1 if size < 0x100 else 2
    length = bytes([size]) if not octets else bytes([0x80 | octets]) + size.to_bytes(octets, "big")
    header = b"\x30" + length
    assert der_size(header) == len(header) + size
    assert der_size(header[:1]) is None


@pytest.mark.parametrize("data", [b"\x31\x00", b"\x30\x80", b"\x30\x83\x01\x00\x00", b"-----BEGIN"])
def test_der_of_another_kind_is_refused(data):
    with pytest.raises(InvalidRequest):
        der_size(data)
