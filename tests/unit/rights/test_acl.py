"""The ACL grammar and its evaluator, against POSIX.1e draft 17 as it reads."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from srm_dicom.errors import InvalidRequest
from srm_dicom.identity.principal import Principal
from srm_dicom.rights.acl import MAX_ENTRIES, PERMISSIONS, Acl, Entry, Tag, _parse
from srm_dicom.rights.evaluate import decide

END = datetime(2040, 1, 1, tzinfo=UTC)
NAMES = ("/CN=a", "/CN=b", '/CN="x"', "/CN=back\\slash")
GROUPS = ("/vo", "/vo/sub", "/vo/sub/Role=r")


def who(name: str, *fqans: str) -> Principal:
    return Principal(name, fqans, False, END)


def allowed(text: str, caller: Principal, letter: str = "r", owner: str = "") -> bool:
    return decide(Acl.parse(text), owner, caller, letter).allowed


letters = st.frozensets(st.sampled_from(PERMISSIONS[:3]))
entries = st.one_of(
    st.builds(Entry, st.just(Tag.USER), st.sampled_from(("", *NAMES)), letters, st.booleans()),
    st.builds(Entry, st.just(Tag.GROUP), st.sampled_from(GROUPS), letters, st.booleans()),
    st.builds(Entry, st.sampled_from((Tag.MASK, Tag.OTHER)), st.just(""), letters, st.booleans()),
)
acls = st.builds(lambda made: Acl(tuple(made)), st.lists(entries, max_size=8))


@given(acls)
def test_the_text_of_an_acl_is_read_as_the_same_acl(acl: Acl) -> None:
    assert Acl.parse(str(acl)) == acl


def by_the_draft(acl: Acl, owner: str, caller: Principal, letter: str) -> bool:
    """Decide as 23.1.4 says, entry by entry, without any index."""
    access = [entry for entry in acl.entries if not entry.default]
    masks = [entry for entry in access if entry.tag is Tag.MASK][:1]
    unmasked = all(letter in mask.permissions for mask in masks)
    if owner and caller.dn == owner:
        own = [entry for entry in access if entry.tag is Tag.USER and not entry.qualifier][:1]
        return any(letter in entry.permissions for entry in own)
    named = [entry for entry in access if entry.tag is Tag.USER and entry.qualifier == caller.dn]
    groups = [entry for entry in access if entry.tag is Tag.GROUP and entry.qualifier in caller.fqans]
    for matching in (named, groups):
        if matching:
            return unmasked and any(letter in entry.permissions for entry in matching)
    others = [entry for entry in access if entry.tag is Tag.OTHER][:1]
    return any(letter in entry.permissions for entry in others)


@given(
    acls,
    st.sampled_from(("", *NAMES)),
    st.sampled_from(NAMES),
    st.lists(st.sampled_from(GROUPS), unique=True),
    st.sampled_from("rwx"),
)
def test_every_decision_is_that_of_the_draft(
    acl: Acl, owner: str, name: str, fqans: list[str], letter: str
) -> None:
    decision = decide(acl, owner, who(name, *fqans), letter)
    assert decision.allowed == by_the_draft(acl, owner, who(name, *fqans), letter)
    known = {str(entry) for entry in acl.access()} | {"no entry speaks of this caller"}
    assert decision.rule in known


def test_without_an_entry_nobody_may() -> None:
    assert decide(Acl(), "", who("/CN=a", "/vo"), "r") == (False, "no entry speaks of this caller")


def test_the_owners_entry_is_for_nobody_without_a_name() -> None:
    assert not allowed("user::rwx", who(""))


@pytest.mark.parametrize(
    "fqan", ["/vo", "/vo/sub", "/vo/sub/Role=other", "/vo/subs/Role=r", "/VO/sub/Role=r", "/vo/sub/Role=r/x"]
)
def test_a_group_is_meant_to_the_letter(fqan: str) -> None:
    acl = 'group:"/vo/sub/Role=r":r'
    assert not allowed(acl, who("/CN=a", fqan))
    assert allowed(acl, who("/CN=a", fqan, "/vo/sub/Role=r"))


def test_one_right_does_not_imply_another() -> None:
    for given_letter in PERMISSIONS:
        acl = f'user:"/CN=a":{given_letter}'
        found = {letter for letter in PERMISSIONS if allowed(acl, who("/CN=a"), letter)}
        assert found == {given_letter}


@pytest.mark.parametrize(
    "text",
    ["user:/CN=a", "user:/CN=a:z", "users::r", 'mask:"x":r', "deny:/CN=a:r", "user:/CN=a:R", 'user:"/CN=a:r'],
)
def test_what_is_no_acl_is_refused_whole(text: str) -> None:
    with pytest.raises(InvalidRequest):
        Acl.parse(f"other::r\n{text}")


def test_too_many_entries() -> None:
    with pytest.raises(InvalidRequest):
        Acl.parse("\n".join(f'user:"/CN={number}":r' for number in range(MAX_ENTRIES + 1)))


def test_what_is_stored_is_read_however_long_it_is() -> None:
    acl = Acl(tuple(Entry(Tag.USER, f"/CN={number}\nx", frozenset("r")) for number in range(MAX_ENTRIES + 1)))
    assert Acl.stored(str(acl)) == acl
    shorter = acl.changed(Acl((replace(acl.entries[0], permissions=frozenset()),)))
    assert len(shorter.entries) == MAX_ENTRIES


def test_an_acl_grows_no_longer_than_it_may() -> None:
    full = Acl(tuple(Entry(Tag.USER, f"/CN={number}", frozenset("r")) for number in range(MAX_ENTRIES)))
    assert full.granting(Tag.USER, "/CN=0", "w").entries[0].permissions == {"w"}
    with pytest.raises(InvalidRequest):
        full.granting(Tag.USER, "/CN=one more", "r")


@pytest.mark.parametrize("name", ["/CN=a\nb", "/CN=a\x00", "/CN=" + "a" * 1024])
def test_a_name_that_nobody_has_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest):
        Acl().granting(Tag.USER, name, "r")
    with pytest.raises(InvalidRequest):
        Acl.parse(str(Acl((Entry(Tag.USER, name, frozenset("r")),))))


def test_a_long_text_is_not_remembered() -> None:
    """Else a few of the longest messages that a server takes would have all its memory."""
    held = _parse.cache_info().currsize
    with pytest.raises(InvalidRequest):
        Acl.parse("other::r," * MAX_ENTRIES * 20)
    long = "\n".join(f'user:"/CN={number:064}":r' for number in range(MAX_ENTRIES))
    assert Acl.parse(long) == Acl.stored(long)
    assert _parse.cache_info().currsize == held


@pytest.mark.parametrize("text", ['"user::rwx', 'user::rwx"', 'user:"/CN=a:r', 'user:"/CN=a":r"'])
def test_a_quote_without_its_other_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        Acl.parse(text)


@pytest.mark.parametrize(
    "text", ['"' + '\\"' * 500_000, '"' + '\\"' * 500_000 + "\\\n", '"' + "\\\n" * 500_000]
)
def test_a_text_that_only_looks_like_an_acl_is_refused_in_one_reading(text: str) -> None:
    """Read anew from every quote on, it would keep a process busy for days."""
    with pytest.raises(InvalidRequest):
        Acl.parse(text)
