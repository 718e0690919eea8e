import time
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from srm_dicom.errors import InvalidRequest, TooLarge
from srm_dicom.soap.envelope import MAX_DEPTH, SOAP_ENVELOPE, body_entry


def message(body, prolog=""):
    return f'{prolog}<s:Envelope xmlns:s="{SOAP_ENVELOPE}"><s:Body>{body}</s:Body></s:Envelope>'.encode()


def text(element):
    return etree.tostring(element, method="c14n", with_comments=False).decode()


def test_the_first_element_of_the_body_is_the_entry():
    assert body_entry(message("\n<!-- c --><a x='1'><b/></a><c id='1'/>")).tag == "a"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no xml",
        b"<a/>",
        b"<a",
        b'<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><a/></s:Body></s:Envelope>',
        message(""),
        message("only text"),
        f'<s:Envelope xmlns:s="{SOAP_ENVELOPE}"/>'.encode(),
        f'<s:Envelope xmlns:s="{SOAP_ENVELOPE}"><s:Header/></s:Envelope>'.encode(),
        message("<a/><b/>"),
        message("<a href='#1'/><multiRef id='1'/><b/>"),
        message("<a/>", "<!DOCTYPE x>"),
        message("<a/>", '<!DOCTYPE x SYSTEM "http://localhost:1/x.dtd">'),
        message("<a>&e;</a>", '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'),
        message("<a/>", '<!DOCTYPE x [<!ENTITY % p SYSTEM "file:///etc/passwd"> %p;]>'),
        message("<a/>").decode().encode("utf-16")[:-3],
        message("<a>\ufffe</a>"),
        b"\xff\xfe\xfd",
    ],
)
def test_what_is_no_soap_message_is_refused(data):
    with pytest.raises(InvalidRequest) as refused:
        body_entry(data)
    assert "passwd" not in str(refused.value)


@pytest.mark.parametrize("where", ["<a>&l9;</a>", "<a b='&l9;'/>"])
def test_entities_do_not_multiply(where):
    bomb = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    started = time.monotonic()
    with pytest.raises(InvalidRequest):
        body_entry(message(where, f'<!DOCTYPE x [<!ENTITY l0 "lol">{bomb}]>'))
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(("depth", "fine"), [(MAX_DEPTH - 2, True), (MAX_DEPTH - 1, False), (200, False)])
def test_nesting_is_bounded(depth, fine):
    data = message("<a>" * depth + "</a>" * depth)
    if fine:
        assert body_entry(data).tag == "a"
    else:
        with pytest.raises(TooLarge):
            body_entry(data)


def test_nesting_beyond_what_the_parser_takes_is_refused():
    with pytest.raises(InvalidRequest):
        body_entry(message("<a>" * 10_000 + "</a>" * 10_000))


def test_references_are_replaced_by_what_they_name():
    entry = body_entry(
        message(
            '<op><req href="#r"/><again href="#n"/></op>'
            '<multiRef id="r" x="1"><n href="#n"/><m>2</m></multiRef><multiRef id="n">7</multiRef>'
        )
    )
    assert text(entry) == (
        f'<op xmlns:s="{SOAP_ENVELOPE}"><req x="1"><n>7</n><m>2</m></req><again>7</again></op>'
    )


@pytest.mark.parametrize(
    "body",
    [
        '<op href="#nowhere"/>',
        '<op href="http://localhost:1/"/>',
        '<op id="a" href="#a"/>',
        '<op href="#a"/><m id="a"><x href="#a"/></m>',
        '<op href="#a"/><m id="a"><x href="#b"/></m><m id="b"><x href="#a"/></m>',
        '<op href="#a"/><m id="a" href="#b"/><m id="b" href="#a"/>',
        '<op id="o"><x href="#o"/></op>',
    ],
)
def test_references_to_nothing_and_in_circles_are_refused(body):
    with pytest.raises((InvalidRequest, TooLarge)):
        body_entry(message(body))


def test_references_do_not_multiply():
    levels = "".join(f'<m id="{n}">' + f'<x href="#{n + 1}"/>' * 10 + "</m>" for n in range(15))
    started = time.monotonic()
    with pytest.raises(TooLarge):
        body_entry(message(f'<op href="#0"/>{levels}<m id="15">x</m>'))
    assert time.monotonic() - started < 10


def test_a_long_chain_of_references_is_refused():
    chain = "".join(f'<m id="{n}"><x href="#{n + 1}"/></m>' for n in range(2000))
    with pytest.raises(TooLarge):
        body_entry(message(f'<op href="#0"/>{chain}<m id="2000"/>'))


FRAGMENTS = st.sampled_from(
    [
        "<a>",
        "</a>",
        "<b id='i'>",
        "</b>",
        "<c href='#i'/>",
        "x",
        "<![CDATA[",
        "]]>",
        "<!DOCTYPE x>",
        "&e;",
        "\0",
        "<?p?>",
    ]
)


@given(st.lists(FRAGMENTS, max_size=12).map("".join))
def test_any_message_is_read_or_refused(body):
    with suppress(InvalidRequest, TooLarge):
        assert isinstance(body_entry(message(body)).tag, str)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    with pytest.raises(InvalidRequest):
        body_entry(data)
