"""Space reservation with real accounts: what is promised, what files take of it, until when.

A space is room of the whole site that one user is promised. Files that are put into it count against it
from the moment when they are announced, or their size is known; where none is named, nothing is counted.
A reservation is made at once, so no request of its own is left behind: its token names it in every call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from srm_dicom.broker.access import FileAccess
from srm_dicom.broker.surls import OwnSurls
from srm_dicom.broker.viewing import seconds_left
from srm_dicom.clock import Clock
from srm_dicom.errors import (
    Busy,
    InvalidRequest,
    IsADirectory,
    MdmError,
    NoSpace,
    NotAuthorised,
    NotSupported,
    SpaceExhausted,
    TooLarge,
)
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import Guid, Surl, new_token
from srm_dicom.store.spaces import Space
from srm_dicom.store.stores import Stores

FULL = "the space has not so much left"
UNLIMITED_S = -1
"""A lifetime without an end (SRM v2.2, 2.1.12)."""


def refuse_custody(policy: str) -> None:
    """Refuse a TRetentionPolicy that promises what this site does not.

    Raises:
        NotSupported: it does.
    """
    if policy == "CUSTODIAL":
        raise NotSupported("files are kept as REPLICA or OUTPUT here")


@dataclass(frozen=True, slots=True)
class SpaceBounds:
    """What may be reserved.

    Attributes:
        total_bytes: all living reservations together.
        default_s: how long one lasts when its owner does not say.
        max_s: the longest.
    """

    total_bytes: int = 100 * 2**30
    default_s: int = 24 * 3600
    max_s: int = 365 * 24 * 3600


@dataclass(frozen=True, slots=True)
class SpaceView:
    """A space as it is now; `left_s` is -1 without an end and 0 when it is over."""

    space: Space
    used_bytes: int
    assigned_s: int
    left_s: int


@dataclass(frozen=True, slots=True)
class SpaceWish:
    """A reservation as asked; None where the caller left it to the site."""

    size_bytes: int
    policy: str
    latency: str = "ONLINE"
    lifetime_s: int | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True)
class SpaceAccounts:
    """Spaces of callers, over the rows of the store; every space is its owner's alone."""

    stores: Stores
    access: FileAccess
    bounds: SpaceBounds
    clock: Clock
    surls: OwnSurls
    max_tokens: int = 1000

    def reserve(self, principal: Principal, wish: SpaceWish) -> SpaceView:
        """Promise room.

        Raises:
            NotSupported: nothing here is kept in custody.
            NoSpace: so much is not left.
            InvalidRequest: nothing is asked for.
        """
        refuse_custody(wish.policy)
        if wish.size_bytes <= 0:
            raise InvalidRequest("a space has at least one byte")
        now = self.clock.now()
        with self.stores.database.transaction():
            self._refuse_beyond(wish.size_bytes, now)
            space = Space(
                new_token(), principal.dn, wish.description, wish.policy, wish.latency,
                wish.size_bytes, now, self._end(wish.lifetime_s, now),
            )  # fmt: skip
            self.stores.spaces.add(space)
        return self._view(space)

    def update(
        self, principal: Principal, token: str, size_bytes: int | None, lifetime_s: int | None
    ) -> SpaceView:
        """Promise more or less room, for a lifetime from now on.

        Raises:
            InvalidRequest: no such space, or nothing is to be changed.
            NoSpace: so much is not left.
            SpaceExhausted: its files take more than that.
        """
        if size_bytes is None and lifetime_s is None:
            raise InvalidRequest("neither a size nor a lifetime is asked for")
        now = self.clock.now()
        with self.stores.database.transaction():
            before = space = self.own(principal, token)
            if size_bytes is not None:
                if size_bytes < self.stores.spaces.used_bytes(token):
                    raise SpaceExhausted("the files of the space take more than that")
                space = replace(space, size_bytes=size_bytes)
            if lifetime_s is not None:
                space = replace(space, expires_at=self._end(lifetime_s, now))
            self._refuse_beyond(space.promised_bytes(now) - before.promised_bytes(now), now)
            self.stores.spaces.change(space)
        return self._view(space)

    def release(self, principal: Principal, token: str, *, force: bool) -> None:
        """Give room back; files stay, and stand in no space.

        Raises:
            InvalidRequest: no such space.
            Busy: something is being written into it, and `force` is not set.
        """
        with self.stores.database.transaction():
            self.own(principal, token)
            if not force and self.stores.uploads.in_space(token):
                raise Busy("files are being written into the space")
            self.stores.spaces.remove(token)

    def tokens(self, principal: Principal, description: str | None) -> list[str]:
        """Return the caller's spaces; of one description, to the letter, if it is given."""
        return [space.token for space in self.stores.spaces.of_owner(principal.dn, description)]

    def views(self, principal: Principal, tokens: Sequence[str]) -> list[SpaceView | None]:
        """Return spaces in the order asked; None for what is no space of the caller.

        Raises:
            TooLarge: more tokens than are answered at once.
        """
        if len(tokens) > self.max_tokens:
            raise TooLarge(f"at most {self.max_tokens} spaces are told of at once")
        found = self.stores.spaces.find_many(principal.dn, tokens)
        used = self.stores.spaces.used_of(list(found))
        views = {token: self._view_of(space, used.get(token, 0)) for token, space in found.items()}
        return [views.get(token) for token in tokens]

    def view(self, principal: Principal, token: str) -> SpaceView:
        """Return a space.

        Raises:
            InvalidRequest: the caller has none of this token.
        """
        return self._view(self.own(principal, token))

    def own(self, principal: Principal, token: str) -> Space:
        """Return a space of the caller.

        Raises:
            InvalidRequest: the caller has none of this token.
        """
        space = self.stores.spaces.find(token)
        if space is None or space.owner != principal.dn:
            raise InvalidRequest("you have no space with this token")
        return space

    def room(self, principal: Principal, token: str, size_bytes: int) -> None:
        """Make sure that a file may be put into a space; joins the caller's transaction.

        Raises:
            InvalidRequest: the caller has no such space, or its lifetime is over.
            SpaceExhausted: it has not so much left.
        """
        space = self.own(principal, token)
        if space.is_over(self.clock.now()):
            raise InvalidRequest("the lifetime of the space is over")
        self.refuse_beyond(token, size_bytes)

    def refuse_beyond(self, token: str, more_bytes: int) -> None:
        """Refuse what a space has no room for; one that was given back is none, and bounds nothing.

        Raises:
            SpaceExhausted: it has not so much left.
        """
        if not self.stores.spaces.has_room(token, more_bytes):
            raise SpaceExhausted(FULL)

    def move_files(self, principal: Principal, surls: Sequence[str], token: str) -> list[MdmError | None]:
        """Let files of the caller stand in another space; tells for each why not."""

        def move(guid: Guid, size_bytes: int) -> None:
            self.stores.spaces.take_out([guid])
            self.room(principal, token, size_bytes)
            self.stores.spaces.put(guid, token, size_bytes)

        return self._each(principal, surls, token, move)

    def purge_files(self, principal: Principal, surls: Sequence[str], token: str) -> list[MdmError | None]:
        """Take files out of a space, with their copies in scratch; the files themselves stay."""

        def purge(guid: Guid, _size_bytes: int) -> None:
            self._refuse_outside(guid, token)
            if guid in self.stores.requests.pinned():
                raise Busy("somebody is reading this file")
            staged = self.stores.staged.find([guid]).get(guid)
            if staged is not None:
                self.stores.staged.remove(guid, staged.node)
            self.stores.spaces.take_out([guid])

        return self._each(principal, surls, token, purge)

    def files_in(self, principal: Principal, surls: Sequence[str], token: str) -> list[MdmError | None]:
        """Tell for each file why it does not stand in a space."""
        return self._each(principal, surls, token, lambda guid, _size: self._refuse_outside(guid, token))

    def _each(
        self,
        principal: Principal,
        surls: Sequence[str],
        token: str,
        act: Callable[[Guid, int], None],
    ) -> list[MdmError | None]:
        """Act on each file by GUID and size, in a transaction of its own; tells for each why not."""
        self.own(principal, token)
        failures: list[MdmError | None] = []
        for surl in surls:
            try:
                entry = self._file(principal, surl)
                with self.stores.database.transaction():
                    act(*entry)
                failures.append(None)
            except MdmError as error:
                failures.append(error)
        return failures

    def _file(self, principal: Principal, surl: str) -> tuple[Guid, int]:
        parsed = self.surls.parse(surl)
        if not isinstance(parsed, Surl):
            raise parsed
        entry = self.access.visible(principal, parsed.path, "space")
        if entry.is_directory or entry.guid is None:
            raise IsADirectory("this is a directory")
        if entry.owner != principal.dn:
            raise NotAuthorised("only the owner of a file says which space it stands in")
        return entry.guid, entry.facts.size_bytes if entry.facts else 0

    def _refuse_outside(self, guid: Guid, token: str) -> None:
        if self.stores.spaces.of_files([guid]).get(guid) != token:
            raise InvalidRequest("this file does not stand in the space")

    def _refuse_beyond(self, more_bytes: int, now: datetime) -> None:
        if more_bytes > 0 and self.stores.spaces.reserved_bytes(now) + more_bytes > self.bounds.total_bytes:
            raise NoSpace("the site has not so much room to promise")

    def _end(self, lifetime_s: int | None, now: datetime) -> datetime | None:
        if lifetime_s == UNLIMITED_S:
            return None
        if lifetime_s is not None and lifetime_s < 0:
            raise InvalidRequest("a lifetime is -1 or not negative")
        return now + timedelta(seconds=min(lifetime_s or self.bounds.default_s, self.bounds.max_s))

    def _view(self, space: Space) -> SpaceView:
        return self._view_of(space, self.stores.spaces.used_bytes(space.token))

    def _view_of(self, space: Space, used_bytes: int) -> SpaceView:
        now = self.clock.now()
        if space.expires_at is None:
            return SpaceView(space, used_bytes, UNLIMITED_S, UNLIMITED_S)
        assigned_s = int((space.expires_at - space.created_at).total_seconds())
        return SpaceView(space, used_bytes, assigned_s, seconds_left(space.expires_at, now))
