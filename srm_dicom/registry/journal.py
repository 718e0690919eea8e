"""The registrar's journal: what has arrived and is not everywhere yet.

It is of the inner zone and still says nothing: what identifies an object is sealed under a key that
lives elsewhere. A row goes when the last catalogue has confirmed; until then the saga may be walked
again from its beginning, which does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import peewee

from srm_dicom.crypto.box import open_box, seal_box
from srm_dicom.db.database import Database
from srm_dicom.errors import IntegrityError
from srm_dicom.ids import Guid
from srm_dicom.plugin.api import Discovered
from srm_dicom.rights.project import Release
from srm_dicom.telemetry import logger

log = logger("registrar")


@dataclass(frozen=True, slots=True)
class Arrival:
    """Something that a plugin found or was sent, for one release."""

    plugin: str
    release: Release
    found: Discovered


@dataclass(frozen=True, slots=True)
class Group:
    """Arrivals that share a key pair and settle together."""

    plugin: str
    release: Release
    name: str


class _Content(msgspec.Struct):
    path: tuple[str, ...]
    plugin_ref: bytes
    attributes: dict[str, str | int | float]
    nominative: dict[str, str]


_CHUNK = 500


class ArrivalRow(peewee.Model):
    """Table ``arrival``; `box` is a sealed `_Content`.

    What is `dropped` is not to be registered, and had been claimed: whoever claimed it may have given it a
    name before it heard of that, and have died.
    """

    guid = peewee.CharField(max_length=36, primary_key=True)
    plugin = peewee.TextField()
    project = peewee.TextField()
    profile = peewee.TextField()
    profile_version = peewee.TextField()
    group_name = peewee.TextField()
    box = peewee.BlobField()
    arrived_at = peewee.BigIntegerField()
    lease_until = peewee.BigIntegerField(default=0)
    attempts = peewee.IntegerField(default=0)
    dropped = peewee.BooleanField(default=False)

    class Meta:
        """Groups are looked up by what they are of."""

        table_name = "arrival"
        indexes = ((("plugin", "project", "profile_version", "group_name"), False),)


class GroupKeyRow(peewee.Model):
    """Table ``group_key``: the public half; `confirmed` once k-of-n shares stand on all servers."""

    project = peewee.TextField()
    profile_version = peewee.TextField()
    group_name = peewee.TextField()
    key_id = peewee.TextField()
    public_key = peewee.BlobField()
    confirmed = peewee.BooleanField(default=False)

    class Meta:
        """One key pair a group and release."""

        table_name = "group_key"
        primary_key = peewee.CompositeKey("project", "profile_version", "group_name")


@dataclass(frozen=True, slots=True)
class GroupKey:
    """The public half of a group's key pair."""

    key_id: str
    public_key: bytes
    confirmed: bool


class Journal:
    """Both tables of the registrar's database."""

    def __init__(self, database: Database, key: bytes) -> None:
        self._database = database
        self._key = key
        self._arrival = database.bind(ArrivalRow)
        self._group_key = database.bind(GroupKeyRow)

    def add(self, arrivals: Sequence[Arrival], now: datetime) -> None:
        """Write arrivals down, durable when this returns; one that is known starts to settle anew."""
        with self._database.transaction():
            for arrival in arrivals:
                columns = self._columns(arrival, now)
                guid = columns.pop("guid")
                self._arrival.insert(guid=guid, **columns).on_conflict(
                    conflict_target=[self._arrival.guid], update=columns
                ).execute()

    def claim(self, now: datetime, quiet_since: datetime, lease_s: float) -> Group | None:
        """Lease the group that has been quiet longest, if any has been since `quiet_since`."""
        row = self._arrival
        quiet = _ms(quiet_since)
        newest, leased = peewee.fn.MAX(row.arrived_at), peewee.fn.MAX(row.lease_until)
        of_group = (row.plugin, row.project, row.profile, row.profile_version, row.group_name)
        with self._database.transaction():
            query: Any = (
                row.select(*of_group)
                .group_by(*of_group)
                .having((newest <= quiet) & (leased <= _ms(now)))
                .order_by(newest)
                .limit(1)
                .tuples()
            )
            for plugin, project, profile, version, name in query:
                group = Group(plugin, Release(project, profile, version), name)
                self._lease(group, now + timedelta(seconds=lease_s), attempt=True)
                return group
        return None

    def postpone(self, group: Group, until: datetime) -> None:
        """Leave a group alone until a moment."""
        self._lease(group, until, attempt=False)

    def attempts(self, group: Group) -> int:
        """Return how often a group has been tried."""
        most = peewee.fn.MAX(self._arrival.attempts)
        return int(self._arrival.select(most).where(*self._of(group)).scalar() or 0)

    def arrivals(self, group: Group, limit: int, *, dropped: bool = False) -> list[Arrival]:
        """Return the arrivals of a group that it had when it was claimed, opened, or those dropped since."""
        row, after = self._arrival, ""
        claimed = (*self._of(group), row.lease_until > 0, row.dropped == dropped)
        while True:
            rows = list(row.select().where(*claimed, row.guid > after).order_by(row.guid).limit(limit))
            found = list(self._readable(rows))
            if found or len(rows) < limit:
                return found
            after = rows[-1].guid

    def waiting(self) -> Iterator[Arrival]:
        """Yield every arrival, opened."""
        return self._readable(
            self._arrival.select().where(~self._arrival.dropped).order_by(self._arrival.guid)
        )

    def _readable(self, rows: Iterable[Any]) -> Iterator[Arrival]:
        """Open what can be opened: what the key is lost to stays until it is told again."""
        for row in rows:
            try:
                found = self._open(row)
            except IntegrityError:
                log.warning("arrival_unreadable", guid=row.guid)
                continue
            yield Arrival(row.plugin, Release(row.project, row.profile, row.profile_version), found)

    def known(self, guids: Sequence[Guid]) -> set[Guid]:
        """Return those that are still written down."""
        row = self._arrival
        chunks = (guids[start : start + _CHUNK] for start in range(0, len(guids), _CHUNK))
        return {
            Guid(one.guid)
            for chunk in chunks
            for one in row.select(row.guid).where(row.guid.in_(chunk), ~row.dropped)
        }

    def done(self, guids: Sequence[Guid]) -> None:
        """Forget arrivals that are registered everywhere, but for those that have come again meanwhile."""
        with self._database.transaction():
            for guid in guids:
                row = self._arrival
                row.delete().where(row.guid == guid, row.lease_until > 0).execute()

    def drop(self, guids: Sequence[Guid]) -> None:
        """Forget arrivals that are not to be registered."""
        with self._database.transaction():
            for guid in guids:
                self._drop(self._arrival.guid == guid)

    def drop_older(self, than_ms: Mapping[Guid, int]) -> None:
        """Forget what was told of files before a moment of each, in milliseconds of the epoch."""
        row = self._arrival
        with self._database.transaction():
            for guid, ms in than_ms.items():
                self._drop(row.guid == guid, row.arrived_at < ms)

    def pending(self) -> int:
        """Return how many arrivals are not registered everywhere."""
        return int(self._arrival.select().where(~self._arrival.dropped).count())

    def group_key(self, group: Group) -> GroupKey | None:
        """Return what is known of a group's key."""
        row = self._group_key.get_or_none(*self._key_of(group))
        return GroupKey(row.key_id, bytes(row.public_key), row.confirmed) if row else None

    def intend_key(self, group: Group, key_id: str, public_key: bytes) -> None:
        """Write down that a key is about to be written, so that half of it can be undone."""
        self._group_key.create(
            project=group.release.project,
            profile_version=group.release.version,
            group_name=group.name,
            key_id=key_id,
            public_key=public_key,
        )

    def confirm_key(self, group: Group, key_id: str) -> bool:
        """Say that every key server has its share; tells whether it still is the group's key."""
        mine = (*self._key_of(group), self._group_key.key_id == key_id)
        return bool(self._group_key.update(confirmed=True).where(*mine).execute())

    def known_keys(self) -> Iterator[tuple[str, GroupKey]]:
        """Yield every key that stands on the key servers, with the project that it is of."""
        row = self._group_key
        for one in row.select().where(row.confirmed).order_by(row.key_id):
            yield one.project, GroupKey(one.key_id, bytes(one.public_key), one.confirmed)

    def forget_key(self, key_id: str) -> bytes | None:
        """Forget a key that is to be destroyed and return its public half; its group gets another one."""
        found = self._group_key.get_or_none(self._group_key.key_id == key_id)
        self._group_key.delete().where(self._group_key.key_id == key_id).execute()
        return bytes(found.public_key) if found else None

    def retire_key(self, key_id: str, used: Callable[[], bool]) -> bool:
        """Forget a key that no file needs; tells whether it is gone.

        Whoever registers has its arrivals here until its files have names. So when there are none, and `used`
        then sees no file, nothing is sealed to the key and nothing will be.
        """
        with self._database.transaction():
            row = self._group_key.get_or_none(self._group_key.key_id == key_id)
            if row is not None:
                arrival = self._arrival
                waiting = arrival.select(arrival.guid).where(
                    arrival.project == row.project,
                    arrival.profile_version == row.profile_version,
                    arrival.group_name == row.group_name,
                    ~arrival.dropped,
                )
                if waiting.exists():
                    return False
            if used():
                return False
            if row is not None:
                self._group_key.delete().where(self._group_key.key_id == key_id).execute()
        return True

    def drop_key(self, group: Group) -> None:
        """Forget a key that was undone."""
        self._group_key.delete().where(*self._key_of(group)).execute()

    def _drop(self, *which: Any) -> None:
        """Delete what nobody has claimed; what somebody has is the next claim's."""
        row = self._arrival
        row.delete().where(*which, row.lease_until == 0).execute()
        row.update(dropped=True).where(*which).execute()

    def _columns(self, arrival: Arrival, now: datetime) -> dict[str, Any]:
        found = arrival.found
        content = _Content(found.path, found.plugin_ref, dict(found.attributes), dict(found.nominative))
        return {
            "guid": found.guid,
            "plugin": arrival.plugin,
            "project": arrival.release.project,
            "profile": arrival.release.profile,
            "profile_version": arrival.release.version,
            "group_name": found.group,
            "box": seal_box(self._key, f"arrival {found.guid}", msgspec.msgpack.encode(content)),
            "arrived_at": _ms(now),
            "lease_until": 0,
            "dropped": False,
        }

    def _open(self, row: Any) -> Discovered:
        plain = open_box(self._key, f"arrival {row.guid}", bytes(row.box))
        content = msgspec.msgpack.decode(plain, type=_Content)
        return Discovered(
            guid=Guid(row.guid),
            path=content.path,
            group=row.group_name,
            plugin_ref=content.plugin_ref,
            attributes=content.attributes,
            nominative=content.nominative,
        )

    def _lease(self, group: Group, until: datetime, *, attempt: bool) -> None:
        columns: Mapping[str, Any] = {"lease_until": _ms(until)}
        if attempt:
            columns = {**columns, "attempts": self._arrival.attempts + 1}
        self._arrival.update(**columns).where(*self._of(group)).execute()

    def _of(self, group: Group) -> tuple[Any, ...]:
        row = self._arrival
        return (
            row.plugin == group.plugin,
            row.project == group.release.project,
            row.profile == group.release.profile,
            row.profile_version == group.release.version,
            row.group_name == group.name,
        )

    def _key_of(self, group: Group) -> tuple[Any, ...]:
        row = self._group_key
        return (
            row.project == group.release.project,
            row.profile_version == group.release.version,
            row.group_name == group.name,
        )


def _ms(moment: datetime) -> int:
    return int(moment.astimezone(UTC).timestamp() * 1000)
