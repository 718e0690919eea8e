"""What scripts of gLite's users do with ``glite-eds-*``, told after the sequences of CERN's own tests.

They look for words in the output and at whether a command fails; the numbers are those of CERN's bug tracker.
"""

import os
import re
import secrets
import uuid
from pathlib import Path

import pytest

from srm_dicom.cli import edspermissions
from srm_dicom.wire.hydra.contract import ACLEntry, Perm, Permission

NOWHERE = "https://localhost:1"
BASE = "Base perms: user pdrwl-gs, group {}, other {}"


class People:
    """Three members of the organisation that may make keys, and one of none."""

    def __init__(self, site):
        self.acme, self.first, self.second = (
            site.vo.proxy(site.pki.user(name), "/org.acme") for name in ("acme", "user01", "user02")
        )
        self.coyote = site.pki.proxy(site.pki.user("coyote"))
        self.dn = site.pki.dn


class Shell:
    """A shell of one of them after another."""

    def __init__(self, command):
        self.command = command
        self.who = self.urls = None

    def __call__(self, *words, stdin=None):
        return self.command(*words, who=self.who, urls=self.urls, stdin=stdin)

    def does(self, pattern, *words, stdin=None):
        code, told = self(*words, stdin=stdin)
        assert code == 0, told
        assert re.search(pattern, told), told

    def fails(self, pattern, *words):
        code, told = self(*words)
        assert code, told
        assert re.search(pattern, told), told


@pytest.fixture(scope="module")
def people(live_site):
    return People(live_site)


@pytest.fixture
def shell(eds_command, people):
    shell = Shell(eds_command)
    shell.who = people.acme
    Path("input").write_text("testdata\n")
    return shell


@pytest.fixture
def guid():
    return str(uuid.uuid4())


def test_encrypting_and_decrypting(shell, guid):
    """17023."""
    shell.does("registered", "key-register", "-v", guid)
    shell.does("encrypted", "encrypt", "-v", guid, "input", "encrypted")
    shell.does("decrypted", "decrypt", "-v", guid, "encrypted", "output")
    assert Path("output").read_text() == "testdata\n"
    shell.does("unregistered", "key-unregister", "-v", guid)


def test_permissions_of_different_people(shell, people, guid):
    """17024: the group is let in, then one person by an ACL."""
    shell.does("registered", "key-register", "-v", guid)
    shell.does(BASE.format("--------", "--------"), "getacl", "-v", guid)
    shell.does("encrypted", "encrypt", "-v", guid, "input", "encrypted")
    Path("encrypted").unlink()
    shell.who = people.first
    shell.fails("Error during glite_eds_encrypt_init", "encrypt", "-v", guid, "input", "encrypted")
    assert not Path("encrypted").exists()
    shell.who = people.acme
    shell.does("Using endpoint", "chmod", "-v", "g+g", guid)
    shell.does(BASE.format("------g-", "--------"), "getacl", "-v", guid)
    shell.who = people.first
    shell.does("encrypted", "encrypt", "-v", guid, "input", "encrypted")
    shell.who = people.coyote
    shell.fails("Error during glite_eds_encrypt_init", "encrypt", "-v", guid, "input", "no")
    shell.who = people.acme
    shell.does("Using endpoint", "chmod", "-v", "g-g", guid)
    shell.does(BASE.format("--------", "--------"), "getacl", "-v", guid)
    shell.who = people.second
    shell.fails("Error during glite_eds_encrypt_init", "encrypt", "-v", guid, "input", "no")
    shell.who = people.acme
    second = people.dn(people.second)
    shell.does("Changed ACLs", "setacl", "-v", "-m", f"{second}:g", guid)
    shell.does(f"(?m)^{re.escape(second)}:------g-$", "getacl", "-v", guid)
    shell.who = people.second
    shell.does("encrypted", "encrypt", "-v", guid, "input", "encrypted")
    shell.who = people.acme
    shell.does("unregistered", "key-unregister", "-v", guid)


def test_whose_a_key_is(shell, people, guid):
    """17027."""
    shell.does("registered", "key-register", "-v", guid)
    shell.does(f"(?m)^# User: {re.escape(people.dn(people.acme))}$", "getacl", "-v", guid)
    shell.does("(?m)^# Group: /org.acme$", "getacl", "-v", guid)
    shell.does("unregistered", "key-unregister", "-v", guid)


def test_changing_an_acl(shell, people, guid):
    """17026."""
    shell.who = people.first
    shell.does("registered", "key-register", "-v", guid)
    shell.does("Base perms", "getacl", "-v", guid)
    shell.does("Changed ACLs", "setacl", "-v", "-m", "a:r", guid)
    shell.does("Using endpoint", "setacl", "-v", "-d", "a:r", guid)
    shell.does("unregistered", "key-unregister", "-v", guid)


def test_a_second_acl_is_set_too(shell):
    """29851."""
    guids = [str(uuid.uuid4()), str(uuid.uuid4())]
    for guid in guids:
        shell.does("registered", "key-register", "-v", guid)
        shell.does("Base perms", "getacl", "-v", guid)
    for guid in guids:
        shell.does("Changed ACLs", "setacl", "-v", "-m", "a:r", guid)
        shell.does("Changed ACLs", "setacl", "-v", "-m", "b:r", guid)
    for guid in guids:
        shell.does("(?m)^b:--r-----$", "getacl", "-v", guid)
        shell.does("unregistered", "key-unregister", "-v", guid)


def test_a_key_that_is_not_there_is_not_removed(shell):
    shell.fails("Error.*could not be found", "key-unregister", "-v", "DOES_NOT_EXISTS")


def test_a_key_that_is_there_is_not_made_again_nor_removed(shell, guid):
    """31583."""
    shell.does("registered", "key-register", "-v", guid)
    shell.fails("Error during glite_eds_register", "key-register", "-v", guid)
    shell.does("unregistered", "key-unregister", "-v", guid)


def test_permissions_are_for_who_may_see_them(shell, people, guid):
    shell.does("registered", "key-register", "-v", guid)
    shell.does(" Base perms:", "getacl", "-v", guid)
    second = people.dn(people.second)
    shell.who = people.second
    shell.fails("ERROR Missing permission", "getacl", "-v", guid)
    shell.fails("ERROR Missing permission", "setacl", "-v", "-m", f"{second}:g", guid)
    shell.fails("ERROR Missing permission", "chmod", "-v", "a+g", guid)
    shell.who = people.acme
    shell.does("Changed ACLs", "setacl", "-v", "-m", f"{second}:g", guid)
    shell.does(f"{re.escape(second)}:------g-", "getacl", "-v", guid)
    shell.does("unregistered", "key-unregister", "-v", guid)


def test_keys_are_made_by_members_only(shell, people, guid):
    shell.who = people.coyote
    shell.fails("Error", "key-register", "-v", guid)
    shell.fails("Error", "key-unregister", "-v", guid)
    shell.who = people.acme
    shell.does("registered", "key-register", "-v", guid)
    shell.does("unregistered", "key-unregister", "-v", guid)


def test_one_server_is_missing(shell, people, live_site, guid):
    shell.does("registered", "key-register", "-v", guid)
    shell.does("unregistered", "key-unregister", "-v", guid)
    missing = [*live_site.urls[:2], NOWHERE]
    shell.urls = missing
    shell.fails("Error during glite_eds_register", "key-register", "-v", guid)
    shell.fails("Error during glite_eds_unregister", "key-unregister", "-v", guid)
    shell.urls = None
    shell.does("registered", "key-register", "-v", guid)
    shell.urls = missing
    shell.does("encrypted", "encrypt", "-v", guid, "input", "encrypted")
    shell.does("decrypted", "decrypt", "-v", guid, "encrypted", "output")
    assert Path("output").read_text() == "testdata\n"
    second = people.dn(people.second)
    shell.fails("Corrupted permissions", "getacl", guid)
    shell.fails("HTTP error", "getacl", "-v", guid)
    shell.fails("HTTP error", "chmod", "-v", "g+g", guid)
    shell.fails("Change failed", "chmod", "g+g", guid)
    shell.fails("HTTP error", "setacl", "-v", "-m", f"{second}:g", guid)
    shell.fails("Change failed", "setacl", "-m", f"{second}:g", guid)
    shell.urls = None
    shell.fails("Corrupted permissions", "getacl", guid)  # the third has what it had
    shell.does("unregistered", "key-unregister", "-v", guid)


def test_what_one_server_says_of_rights_reaches_no_other(shell, people, live_site, guid):
    """Whose key server says that a stranger has a right does not have its owner give it elsewhere."""
    shell.does("registered", "key-register", guid)
    second, coyote = people.dn(people.second), people.dn(people.coyote)
    shell.urls = live_site.urls[:1]
    shell.does("", "setacl", "-m", f"{coyote}:pg", guid)
    shell.does("", "chmod", "o+g", guid)
    shell.urls = None
    shell.does("Changed ACLs", "setacl", "-v", "-m", f"{second}:g", guid)
    shell.does("Changed permissions", "chmod", "-v", "g+g", guid)
    told = shell("getacl", "-v", guid)[1].split("# ENTRY")[1:]
    assert [coyote in one for one in told] == [True, False, False]
    assert [f"{second}:------g-" in one for one in told] == [True, True, True]
    assert ["group ------g-, other --------" in one for one in told] == [False, True, True]
    shell.does("", "setacl", "-x", f"{second}:g", guid)
    shell.does("", "chmod", "o=", guid)
    shell.does(f"(?m)^{re.escape(second)}:------g-$", "getacl", guid)


def test_names_that_a_server_tells_are_lines_of_printable_characters():
    name = "/CN=a\n# User: /CN=b\u009b31m"
    told = edspermissions.listing(Permission(name, name, acl=(ACLEntry(Perm.of("g"), name),)))
    assert [line.isprintable() for line in told] == [True] * 4
    assert told[0] == "# User: /CN=a?# User: /CN=b?31m"


@pytest.mark.parametrize("down", [0, 1, 2])
def test_a_right_is_withdrawn_where_servers_answer(shell, people, live_site, guid, down):
    shell.does("registered", "key-register", guid)
    second = people.dn(people.second)
    shell.does("", "setacl", "-m", f"{second}:g", guid)
    shell.urls = [*live_site.urls]
    shell.urls[down] = NOWHERE
    shell.fails("Change failed", "setacl", "-d", second, guid)
    shell.urls = None
    told = shell("getacl", "-v", guid)[1].split("# ENTRY")[1:]
    assert [second in one for one in told] == [number == down for number in range(3)]


def test_acls_by_words_and_by_files(shell, people, guid):
    two, three = people.dn(people.second), "/C=ch/O=Test organisation/CN=Real user"

    def entries():
        code, told = shell("getacl", guid)
        assert code == 0, told
        return [line for line in told.splitlines() if not line.startswith("#")]

    shell.does("registered", "key-register", guid)
    Path("acl").write_text(f"{two}:rwx\n{three}:pld\n")
    shell.does("", "setacl", "-M", "acl", guid)
    assert entries() == [f"{two}:--rw-x--", f"{three}:pd--l---"]
    shell.does("", "setacl", "-m", f"{two}:pdrwlxgs", guid)
    assert entries() == [f"{two}:pdrwlxgs", f"{three}:pd--l---"]
    Path("acl").write_text(f"# mine\n{two}:gs\n\n{three}:p\n")
    shell.does("", "setacl", "-X", "acl", guid)
    assert entries() == [f"{two}:------gs"]
    shell.does("", "setacl", "-x", "NONE", guid)
    assert entries() == []
    shell.does("", "setacl", "-M", "-", guid, stdin=f"{two}:rwx\n{three}:pld\n")
    shell.does("", "setacl", "-d", two, guid)
    assert entries() == [f"{three}:pd--l---"]
    Path("acl").write_text(f"{three}:\n")
    shell.does("", "setacl", "-D", "acl", guid)
    assert entries() == []
    os.mkfifo("pipe")
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)  # CERN's write into /dev/null
    shell.does("", "setacl", "-x", f"{two}:pdrwlxgs", guid)
    shell.who = people.second
    shell.does("", "encrypt", guid, "input", "pipe")
    shell.who = people.acme
    shell.does("", "setacl", "-x", f"{two}:", guid)
    shell.who = people.second
    shell.fails("", "encrypt", guid, "input", "pipe")
    shell.who = people.acme
    shell.does("", "setacl", "-x", f"{two}:d", guid)
    shell.who = people.second
    shell.does("", "key-unregister", guid)
    os.close(reader)


def test_modes(shell, people, guid):
    def base():
        return next(line for line in shell("getacl", guid)[1].splitlines() if "Base perms" in line)

    shell.does("registered", "key-register", guid)
    shell.does("", "chmod", "og=pdrwlxgs", guid)
    assert base().endswith("group pdrwlxgs, other pdrwlxgs")
    shell.does("", "chmod", "a-x", guid)
    assert base().endswith("user pdrwl-gs, group pdrwl-gs, other pdrwl-gs")
    shell.does("", "chmod", "u+x", guid)
    assert base().endswith("user pdrwlxgs, group pdrwl-gs, other pdrwl-gs")
    shell.does("Changed permissions on", "chmod", "-v", "u-x,go=rg", guid)
    assert base().endswith("user pdrwl-gs, group --r---g-, other --r---g-")
    shell.who = people.coyote
    shell.does("", "encrypt", guid, "input", "encrypted")
    shell.who = people.acme
    shell.does("", "chmod", "og-rg", guid)
    shell.who = people.coyote
    shell.fails("", "encrypt", guid, "input", "encrypted")


def test_what_does_not_go_together_is_refused(shell, guid):
    key = secrets.token_hex(4)
    Path("acl").write_text("a:r\n")
    for words in (
        [],
        ["-x", "NONE", "-x", "a:r"],
        ["-x", "a:r", "-m", "b:r"],
        ["-D", "acl", "-d", "b"],
        ["-M", "acl", "-X", "acl"],
        ["-m", "a:r", "-d", "a"],
        ["-m", "a"],
        ["-m", "a:q"],
        ["-m", ":r"],
    ):
        shell.fails("ERROR", "setacl", *words, key)
    shell.fails("Usage", "setacl", "-f", "acl", key)


def test_many_keys_in_batches(shell):
    guids = [str(uuid.uuid4()) for _ in range(3)]
    for guid in guids:
        shell.does("registered", "key-register", guid)
    shell.fails("(?s)Missing permission for no.*", "setacl", "-v", "-b", "2", "-m", "a:g", "no", *guids)
    code, told = shell("getacl", *guids)
    assert (code, told.count("a:------g-\n")) == (0, 3)
    assert [line for line in told.splitlines() if "ENTRY" in line] == [f"# ENTRY: {guid}" for guid in guids]
