"""The protocol core in memory: two ends, no socket."""

import base64
import re
import ssl

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from srm_dicom.clock import SystemClock
from srm_dicom.errors import NotAuthenticated, NotFound
from srm_dicom.rights.declare import OpenAccess, Right
from srm_dicom.testing.delegating import DelegatingInitiator
from srm_dicom.transfer.replies import reply_for
from srm_dicom.wire.gridftp import actions
from srm_dicom.wire.gridftp.dialogue import Dialogue, Stage
from srm_dicom.wire.gridftp.gsi import GsiAcceptor, GsiInitiator
from srm_dicom.wire.gridftp.lines import LineReader
from srm_dicom.wire.gridftp.replies import Reply
from srm_dicom.wire.gridftp.session import ServerSession
from srm_dicom.wire.gridftp.verbs import TABLE


class Ends:
    """A client that speaks to a session by hand."""

    def __init__(self, gate, version=ssl.TLSVersion.TLSv1_3):
        self.dialogue = Dialogue(
            lambda: GsiAcceptor(gate, gate.server_context(maximum=version), SystemClock())
        )
        self.session = ServerSession(
            self.dialogue, reply_for, greeting="hello", lines=LineReader(max_line_bytes=20_000)
        )
        self.channel = None
        assert self.session.data_to_send() == b"220 hello\r\n"

    def raw(self, data):
        self.session.receive_data(data)
        self.action = self.session.next_action()
        return self.session.data_to_send()

    def say(self, line, protection="ENC"):
        data = f"{line}\r\n".encode()
        if self.channel:
            data = protection.encode() + b" " + base64.b64encode(self.channel.wrap(data)) + b"\r\n"
        return self.open(self.raw(data))

    def open(self, data):
        if not self.channel:
            return data.decode()
        lines = data.split(b"\r\n")[:-1]
        return "".join(self.channel.unwrap(base64.b64decode(line[4:])).decode() for line in lines)

    def exchange(self, initiator):
        assert self.say("AUTH GSSAPI").startswith("334 ")
        token = b""
        for _ in range(10):
            answer = base64.b64encode(initiator.step(token)).decode()
            reply = self.say(f"ADAT {answer}")
            if not reply.startswith("335 ADAT="):
                break
            token = base64.b64decode(reply.removeprefix("335 ADAT=").strip())
        return reply

    def log_in(self, credential, initiator=None):
        initiator = initiator or GsiInitiator(credential.client_context(), "localhost")
        assert self.exchange(initiator).startswith("235 ")
        self.channel = initiator.channel
        assert self.say("USER :globus-mapping:").startswith("331 ")
        assert self.say("PASS dummy").startswith("230 ")
        return self


@pytest.fixture
def ends(gate, alice):
    return Ends(gate).log_in(alice)


def test_a_login_without_delegation(gate, alice, pki, tls_version):
    ends = Ends(gate, tls_version).log_in(alice)
    assert ends.dialogue.principal.dn == pki.dn(alice)
    assert ends.dialogue.acceptor.delegated is None
    assert ends.dialogue.stage is Stage.OPEN


def test_a_login_with_delegation(gate, alice, pki, tls_version):
    ends = Ends(gate, tls_version).log_in(alice, DelegatingInitiator(alice, "localhost"))
    delegated = ends.dialogue.acceptor.delegated
    assert delegated.limited
    assert len(delegated.certificates) == 3


def test_the_turn_byte_comes_in_tls_1_3_alone(gate, alice, tls_version):
    ends = Ends(gate, tls_version)
    initiator = GsiInitiator(alice.client_context(), "localhost")
    ends.exchange(initiator)
    assert initiator.channel.tls.version() == ("TLSv1.2" if tls_version.value == 0x303 else "TLSv1.3")


def test_a_stranger_is_told_why(gate, tmp_path, pki):
    other = type(pki)(tmp_path / "other", fast=True)
    stranger = other.proxy(other.user("Mallory"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(capath=pki.trust_dir)
    context.load_cert_chain(stranger.certificate)
    ends = Ends(gate)
    reply = ends.exchange(GsiInitiator(context, "localhost"))
    assert reply.startswith("535-Authentication failed:")
    assert "issuer" in reply
    assert ends.session.closed
    assert ends.dialogue.refusal


def test_another_server_is_refused(gate, alice):
    with pytest.raises(NotAuthenticated, match="the server is refused"):
        Ends(gate).exchange(GsiInitiator(alice.client_context(), "example.org"))


@pytest.mark.parametrize(
    "token", ["", "!!!", "caf\u00e9", "AAAA", base64.b64encode(b"GET / HTTP/1.0\r\n\r\n").decode()]
)
def test_a_token_that_is_none_ends_the_session(gate, token):
    ends = Ends(gate)
    ends.say("AUTH GSSAPI")
    replies = [ends.say(f"ADAT {token}") for _ in range(20)]
    assert any(reply.startswith(("535", "501")) for reply in replies)
    assert ends.session.closed


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_before_the_login_do_no_harm(data):
    ends = Ends(None)
    ends.dialogue.new_acceptor = lambda: pytest.fail("AUTH was not said")
    ends.raw(data.replace(b"AUTH", b"HTUA") + b"\r\n")
    assert ends.dialogue.acceptor is None


def test_nothing_but_the_login_is_open_before_it(gate):
    ends = Ends(gate)
    for name, verb in TABLE.items():
        if Stage.GREETED not in verb.stages:
            assert ends.say(f"{name} /x").startswith("530 ")
            assert ends.action is None


def test_a_command_in_clear_after_the_login_ends_the_session(ends):
    reply = ends.open(ends.raw(b"RETR /file\r\n"))
    assert reply.startswith("533 ")
    assert ends.session.closed
    assert ends.action is None


@pytest.mark.parametrize(
    "token", [base64.b64encode(b"\x17\x03\x03\x00\x20" + bytes(32)), b"!!!", b"caf\xc3\xa9", b"\xff"]
)
def test_a_forged_command_ends_the_session(ends, token):
    ends.raw(b"ENC " + token + b"\r\n")
    assert ends.session.closed


@pytest.mark.parametrize(("protection", "code"), [("MIC", b"631"), ("ENC", b"632"), ("CONF", b"633")])
def test_replies_are_protected_as_the_command_was(ends, protection, code):
    data = protection.encode() + b" " + base64.b64encode(ends.channel.wrap(b"FEAT\r\n")) + b"\r\n"
    lines = ends.raw(data).split(b"\r\n")[:-1]
    assert len(lines) > 5
    assert {line[:4] for line in lines[:-1]} == {code + b"-"}
    assert lines[-1][:4] == code + b" "
    text = ends.open(b"\r\n".join(lines) + b"\r\n")
    assert text.startswith("211-")
    assert "\r\n DCAU\r\n" in text


def test_pipelined_commands_are_answered_in_order(ends):
    data = b"".join(
        b"ENC " + base64.b64encode(ends.channel.wrap(line)) + b"\r\n"
        for line in (b"TYPE I\r\n", b"RETR /a\r\n", b"PWD\r\n", b"RETR /b\r\n")
    )
    first = ends.open(ends.raw(data))
    assert first.startswith("200 ")
    assert ends.action.path == "/a"
    ends.session.reply(Reply.of(226, "done"))
    action = ends.session.next_action()
    assert action.path == "/b"
    assert [line[:3] for line in ends.open(ends.session.data_to_send()).splitlines()] == ["226", "257"]


def test_no_more_replies_are_held_than_are_enough(gate):
    session = Ends(gate).session
    session.receive_data(b"HELP\r\n" * 10_000)
    said = b""
    while True:
        assert session.next_action() is None
        piece = session.data_to_send()
        assert len(piece) < 100_000
        said += piece
        if not session.waits:
            break
    assert said.count(b"\r\n214 ") + said.count(b"\n530 ") == 10_000


def test_abor_is_seen_behind_a_transfer(ends):
    def behind(line):
        ends.session.receive_data(b"ENC " + base64.b64encode(ends.channel.wrap(line)) + b"\r\n")

    ends.say("RETR /a")
    assert not ends.session.abort_waits()
    behind(b"NOOP\r\n")
    assert not ends.session.abort_waits()
    behind(b"ABOR\r\n")
    assert ends.session.abort_waits()
    ends.session.reply(Reply.of(426, "aborted"))
    assert ends.session.next_action() is None
    codes = [line[:3] for line in ends.open(ends.session.data_to_send()).splitlines()]
    assert codes == ["426", "200", "226"]


def test_what_waits_behind_a_transfer_is_bounded_by_its_bytes(ends):
    """ABOR is looked for in all that has come, which must not be read without an end for it."""
    ends.say("RETR /first")
    command = f"STOR /{'x' * 8000}\r\n".encode()
    sent_bytes = 0
    while not ends.session.full and sent_bytes < 2**24:
        line = b"ENC " + base64.b64encode(ends.channel.wrap(command)) + b"\r\n"
        ends.session.receive_data(line)
        sent_bytes += len(line)
        assert not ends.session.abort_waits()
    assert sent_bytes < 2**22


def test_an_oversized_line_ends_the_session(gate):
    ends = Ends(gate)
    assert ends.raw(b"A" * 20_001).startswith(b"500 ")
    assert ends.session.closed


def test_paths_are_normal_and_stay_inside(ends):
    absent = b"".join(reply_for(NotFound("")).encode()).decode()
    ends.say("RETR /a/./b//../c")
    assert ends.action.path == "/a/c"
    for path in ("/../etc/passwd", "/a b", "/ä", "/x\x7f", "/" + "a" * 2000):
        assert ends.say(f"RETR {path}") == absent
        assert ends.action is None


def test_protection_without_authentication_is_refused(ends):
    assert ends.say("DCAU N").startswith("200")
    assert ends.say("PROT P").startswith("503")
    assert ends.say("DCAU A").startswith("200")
    assert ends.say("PROT P").startswith("200")
    assert ends.say("DCAU N").startswith("503")


def test_streams_are_bounded(ends):
    ends.say("OPTS RETR Parallelism=4,4,4;")
    assert ends.dialogue.parameters.streams == 4
    ends.say("OPTS RETR StripeLayout=Blocked;Parallelism=9999,1,1;")
    assert ends.dialogue.parameters.streams == 16
    assert ends.say("OPTS RETR Parallelism=x;").startswith("501")


@pytest.mark.parametrize(
    "word", ["RETRBUFSIZE", "RBUFSZ", "RBUFSIZ", "STORBUFSIZE", "SBUFSZ", "SBUFSIZ", "BUFSIZE", "bufsize"]
)
def test_buffer_sizes_are_taken_under_each_of_their_names(ends, word):
    """Globus clients try these before SBUF, and do not take no for an answer."""
    assert ends.say(f"SITE {word} 1048576") == ends.say("SBUF 1048576")
    assert ends.say("SBUF 1048576").startswith("200 ")


def test_after_epsv_all_nothing_but_epsv_sets_up_a_data_connection(ends):
    """RFC 2428, 4."""
    assert ends.say("EPSV ALL").startswith("200")
    for line in ("PASV", "PORT 127,0,0,1,80,80", "EPRT |1|127.0.0.1|80|", "SPAS", "SPOR 127,0,0,1,80,80"):
        assert ends.say(line).startswith("503"), line
        assert ends.action is None
    ends.say("EPSV")
    assert isinstance(ends.action, actions.Listen)


def test_rest_holds_for_one_transfer(ends):
    ends.say("REST 5")
    ends.say("ERET P 10 20 /a")
    assert ends.action == actions.Retrieve("/a", ends.action.section, ends.action.restart)
    assert (ends.action.section.offset, ends.action.section.length, ends.action.restart.offset) == (10, 20, 5)
    ends.session.reply(Reply.of(226, "done"))
    ends.say("RETR /a")
    assert ends.action.restart.offset == 0


BAD = (
    *("ERET P 1 /a", "ERET X 1 2 /a", "CKSM MD5 0 /a", "CKSM FOO 0 -1 /a", "REST x", "TYPE E", "MODE B"),
    *("STRU R", "PBSZ x", "PROT X", "DCAU S", "DCAU A /CN=x", "OPTS FOO", "PORT 1", "SITE RM /a"),
    *("SITE BUFSIZE", "SITE BUFSIZE big", "SBUF", "SBUF -1"),
)


@pytest.mark.parametrize("line", BAD)
def test_bad_arguments_are_refused_and_the_session_goes_on(ends, line):
    assert ends.say(line)[:3] in {"501", "504"}
    assert ends.action is None
    assert ends.say("NOOP").startswith("200")


@pytest.mark.parametrize("name", [name for name, verb in TABLE.items() if not verb.done])
def test_what_is_refused_is_refused_for_every_object_alike(ends, name):
    answers = {ends.say(f"{name} {path}") for path in ("/file", "/absent", "/dir/b")}
    assert len(answers) == 1
    assert answers.pop()[:1] == "5"


ARGUMENTS = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            *("/file", "../x", "P 0 5 /file", "A 7 /new", "MD5 0 -1 /file", "0-5,9-12", "5", "E", "S", "I"),
            *("N", "S /CN=x", "127,0,0,1,80,80", "|2|::1|5000|", "MLST size;", "RETR Parallelism=3;", "P"),
        ]
    ),
    st.integers(-(2**70), 2**70).map(str),
)
ANY_LINE = st.tuples(st.sampled_from(sorted(set(TABLE) - {"QUIT"})), ARGUMENTS).map(" ".join)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(ANY_LINE, max_size=8))
def test_any_argument_is_answered(lines, ends):
    for line in lines:
        reply = ends.say(line.replace("\n", " "))
        if ends.action is None:
            assert reply[:3].isdigit()
        else:
            ends.session.reply(Reply.of(226, "done"))
            assert ends.open(ends.session.data_to_send()).startswith("226")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(ANY_LINE, min_size=1, max_size=8), cuts=st.lists(st.integers(1, 300), min_size=1))
def test_every_command_is_answered_once_however_the_bytes_are_cut(lines, cuts, ends):
    data = b"".join(
        b"ENC " + base64.b64encode(ends.channel.wrap(line.replace("\n", " ").encode())) + b"\r\n"
        for line in lines
    )
    answered, turn = 0, 0
    while data:
        count = cuts[turn % len(cuts)]
        ends.session.receive_data(data[:count])
        data, turn = data[count:], turn + 1
        while ends.session.next_action() is not None:
            ends.session.reply(Reply.of(226, "done"))
        answered += _final_replies(ends.open(ends.session.data_to_send()))
    assert answered == len(lines)


def _final_replies(text):
    return len(re.findall(r"^\d{3} ", text, re.MULTILINE))


@pytest.mark.parametrize("name", TABLE)
def test_every_verb_declares_its_right(name):
    right = TABLE[name].right
    assert isinstance(right, Right | OpenAccess), f"{name} declares no right"
    if isinstance(right, OpenAccess):
        assert right.reason


def test_verbs_that_name_an_object_declare_a_right_on_it():
    naming = {"RETR", "ERET", "SIZE", "MDTM", "MLST", "MLSD", "LIST", "NLST", "CKSM", "CWD", "CDUP"}
    for name in naming | {verb for verb in TABLE if TABLE[verb].clause and not TABLE[verb].done} - {"CCC"}:
        assert isinstance(TABLE[name].right, Right), name


def test_help_lists_the_verbs_that_work(ends):
    told = set(ends.say("HELP").replace("214-", "").split())
    assert {name for name, verb in TABLE.items() if verb.done} <= told
