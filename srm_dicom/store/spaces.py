"""Spaces: room that users have reserved, and which files stand in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import peewee

from srm_dicom.db.database import Database
from srm_dicom.ids import Guid
from srm_dicom.store.requestrows import from_ms, to_ms
from srm_dicom.store.uploads import UploadRow

_CHUNK = 500


@dataclass(frozen=True, slots=True)
class Space:
    """A reservation.

    Attributes:
        description: the owner's own words; never logged.
        policy, latency: TRetentionPolicy and TAccessLatency as asked.
        expires_at: None for one without an end.
    """

    token: str
    owner: str
    description: str | None
    policy: str
    latency: str
    size_bytes: int
    created_at: datetime
    expires_at: datetime | None

    def is_over(self, now: datetime) -> bool:
        """Tell whether its lifetime is over."""
        return self.expires_at is not None and self.expires_at <= now

    def promised_bytes(self, now: datetime) -> int:
        """Return what it promises: nothing any more once it is over."""
        return 0 if self.is_over(now) else self.size_bytes


class SpaceRow(peewee.Model):
    """Table ``space``; columns as in `Space`."""

    token = peewee.CharField(max_length=36, primary_key=True)
    owner = peewee.TextField(index=True)
    description = peewee.TextField(null=True)
    policy = peewee.CharField(max_length=10)
    latency = peewee.CharField(max_length=10)
    size_bytes = peewee.BigIntegerField()
    created_at = peewee.BigIntegerField()
    expires_at = peewee.BigIntegerField(null=True)

    class Meta:
        """The name of the table."""

        table_name = "space"


class SpaceFileRow(peewee.Model):
    """Table ``space_file``: a file that stands in a space, by GUID."""

    guid = peewee.CharField(max_length=36, primary_key=True)
    space = peewee.CharField(max_length=36, index=True)
    size_bytes = peewee.BigIntegerField()

    class Meta:
        """The name of the table."""

        table_name = "space_file"


class Spaces:
    """The tables; methods join the caller's transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._row = database.bind(SpaceRow)
        self._file = database.bind(SpaceFileRow)
        self._upload = database.bind(UploadRow)

    def add(self, space: Space) -> None:
        """Write a new reservation."""
        self._row.create(**_columns(space))

    def change(self, space: Space) -> None:
        """Write the size and the lifetime of a reservation anew."""
        columns = _columns(space)
        self._row.update(size_bytes=columns["size_bytes"], expires_at=columns["expires_at"]).where(
            self._row.token == space.token
        ).execute()

    def remove(self, token: str) -> None:
        """Forget a reservation; its files stay, and stand in no space."""
        self._file.delete().where(self._file.space == token).execute()
        self._row.delete().where(self._row.token == token).execute()

    def prune(self, before: datetime) -> int:
        """Forget the reservations that were over `before`, as `remove` does; returns how many."""
        with self._database.transaction():
            over = self._row.select(self._row.token).where(self._row.expires_at < to_ms(before))
            self._file.delete().where(self._file.space.in_(over)).execute()
            return int(self._row.delete().where(self._row.expires_at < to_ms(before)).execute())

    def find(self, token: str) -> Space | None:
        """Return a reservation."""
        row = self._row.get_or_none(self._row.token == token)
        return _space(row) if row else None

    def find_many(self, owner: str, tokens: Sequence[str]) -> dict[str, Space]:
        """Return those reservations of an owner that have one of `tokens`."""
        query = self._row.select().where(self._row.owner == owner)
        found = (query.where(self._row.token.in_(chunk)) for chunk in _chunks(tokens))
        return {row.token: _space(row) for rows in found for row in rows}

    def of_owner(self, owner: str, description: str | None) -> list[Space]:
        """Return an owner's reservations, the oldest first; of one description, to the letter, if given."""
        query = self._row.select().where(self._row.owner == owner)
        if description is not None:
            query = query.where(self._row.description == description)
        return [_space(row) for row in query.order_by(self._row.created_at)]

    def reserved_bytes(self, now: datetime) -> int:
        """Return what all living reservations together promise."""
        lives = self._row.expires_at.is_null() | (self._row.expires_at > to_ms(now))
        return int(self._row.select(peewee.fn.SUM(self._row.size_bytes)).where(lives).scalar() or 0)

    def used_bytes(self, token: str) -> int:
        """Return what files take of a space, and what is announced of those that are being written to it."""
        return self.used_of([token])[token]

    def used_of(self, tokens: Sequence[str]) -> Counter[str]:
        """Return that for many spaces."""
        used: Counter[str] = Counter()
        for row, size in ((self._file, self._file.size_bytes), (self._upload, self._upload.expected_bytes)):
            for chunk in _chunks(tokens):
                sums: Any = row.select(row.space, peewee.fn.SUM(size)).where(row.space.in_(chunk))
                for token, size_bytes in sums.group_by(row.space).tuples():
                    used[token] += int(size_bytes)
        return used

    def has_room(self, token: str, more_bytes: int) -> bool:
        """Tell whether a space has room for so much more; one that is no more bounds nothing."""
        space = self.find(token)
        return space is None or self.used_bytes(token) + more_bytes <= space.size_bytes

    def put(self, guid: Guid, token: str, size_bytes: int) -> None:
        """Let a file stand in a space, if there is one of this token, and in no other."""
        self.take_out([guid])
        if self.find(token) is not None:
            self._file.create(guid=guid, space=token, size_bytes=size_bytes)

    def take_out(self, guids: Sequence[Guid]) -> None:
        """Let files stand in no space."""
        self._file.delete().where(self._file.guid.in_(list(guids))).execute()

    def of_files(self, guids: Sequence[Guid]) -> dict[Guid, str]:
        """Return the spaces that files stand in."""
        query = self._file.select().where(self._file.guid.in_(list(guids)))
        return {Guid(row.guid): row.space for row in query}


def _chunks(tokens: Sequence[str]) -> Iterator[list[str]]:
    yield from (list(tokens[start : start + _CHUNK]) for start in range(0, len(tokens), _CHUNK))


def _columns(space: Space) -> dict[str, object]:
    return {
        "token": space.token,
        "owner": space.owner,
        "description": space.description,
        "policy": space.policy,
        "latency": space.latency,
        "size_bytes": space.size_bytes,
        "created_at": to_ms(space.created_at),
        "expires_at": to_ms(space.expires_at) if space.expires_at else None,
    }


def _space(row: Any) -> Space:
    expires_at = from_ms(row.expires_at) if row.expires_at is not None else None
    return Space(
        row.token, row.owner, row.description, row.policy, row.latency, row.size_bytes,
        from_ms(row.created_at), expires_at,
    )  # fmt: skip
