"""The metadata right: which collections and attributes exist for a caller.

Letters on a collection: ``r`` search attributes, ``n`` nominative attributes, ``w`` write entries,
``p`` administer (schema, ACL, end). A registrar has ``w`` and ``p`` everywhere and still no ``r`` or
``n``: what it may search somebody had to grant, visibly. A limited proxy has ``r`` at most. A collection
whose end has come grants nothing but a registrar's work on it.

What a caller has no letter for does not exist for it: neither a collection nor an attribute, shown or
in a condition, so that nothing can be inferred from an answer.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mdm_metadata.schema import Attribute, Collection
from mdm_metadata.tree import Collections
from srm_dicom.clock import Clock
from srm_dicom.errors import NotAuthorised, NotFound
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import SitePath
from srm_dicom.rights.evaluate import decide
from srm_dicom.wire import amga

_REGISTRAR = "registrar"
_LIMITED_MAY = "r"


@dataclass(frozen=True, slots=True)
class View:
    """A collection as one caller sees it."""

    collection: Collection
    attributes: dict[str, Attribute]

    def attribute(self, name: str) -> Attribute:
        """Return an attribute of the view.

        Raises:
            amga.Refused: there is none, or none that the caller may see.
        """
        try:
            return self.attributes[name]
        except KeyError:
            raise no_such_attribute() from None


@dataclass(frozen=True, slots=True)
class Seen:
    """What one command decided about: paths of collections and the rules that decided."""

    paths: list[SitePath] = field(default_factory=list)
    rules: list[str] = field(default_factory=list)


class Access:
    """Decides for one caller; made anew for every command, so that nothing is decided by what was.

    Args:
        collections: the tree.
        principal: who asks.
        is_registrar: whether its DN is in the settings.
        clock: for the ends of collections.
    """

    def __init__(
        self, collections: Collections, principal: Principal, clock: Clock, *, is_registrar: bool
    ) -> None:
        self._collections = collections
        self._principal = principal
        self._clock = clock
        self._is_registrar = is_registrar
        self.seen = Seen()

    def require(self, path: SitePath, letter: str) -> Collection:
        """Return a collection for which the caller has a letter.

        Raises:
            NotFound: there is none, or none that the caller may learn of.
            NotAuthorised: the caller has other letters on it.
        """
        collection = self._existing(path)
        if not self._has(collection, letter):
            raise NotAuthorised(f"permission {letter} on the collection is missing")
        return collection

    def require_registrar(self) -> None:
        """Refuse everybody who is not a registrar.

        Raises:
            NotAuthorised: not a registrar, or with a limited proxy.
        """
        if not self._writes_all():
            raise NotAuthorised("only a registrar may do this")
        self.seen.rules.append(_REGISTRAR)

    def view(self, path: SitePath) -> View:
        """Return a collection and those of its attributes that the caller may search.

        Raises:
            NotFound: there is none, or none that the caller may learn of.
            NotAuthorised: the caller may only write or administer it.
        """
        collection = self._existing(path)
        if not any(self._has(collection, letter) for letter in "rn"):
            raise NotAuthorised("permission r on the collection is missing")
        return View(collection, self._attributes(collection, registrar_opens=False))

    def writing(self, path: SitePath) -> View:
        """Return a collection that the caller may write, and the attributes it may set.

        Raises:
            NotFound, NotAuthorised: as for `require`.
        """
        collection = self.require(path, "w")
        return View(collection, self._attributes(collection, registrar_opens=True))

    def schema(self, path: SitePath) -> View:
        """Return a collection and those of its attributes that the caller may search or set.

        Raises:
            NotFound, NotAuthorised: as for `view`.
        """
        collection = self._existing(path)
        if not any(self._has(collection, letter) for letter in "rnw"):
            raise NotAuthorised("permission r on the collection is missing")
        return View(collection, self._attributes(collection, registrar_opens=True))

    def letters(self, path: SitePath) -> list[str]:
        """Return the letters that the caller has on a collection.

        Raises:
            NotFound: there is none, or none that the caller may learn of.
        """
        collection = self._existing(path)
        return [letter for letter in "rnwp" if self._has(collection, letter)]

    def searchable(self) -> list[View]:
        """Return every collection that the caller may search."""
        return [
            self.view(collection.path)
            for collection in self._collections.all()
            if any(self._decide(collection, letter)[0] for letter in "rn")
        ]

    def visible(self) -> list[SitePath]:
        """Return the paths of every collection that the caller has a letter for."""
        return [one.path for one in self._collections.all() if self._any(one)]

    def leads_somewhere(self, directory: SitePath) -> bool:
        """Tell whether a directory is the root, visible, or above something visible."""
        below = directory.rstrip("/") + "/"
        return directory == "/" or any(f"{path}/".startswith(below) for path in self.visible())

    def names_entries(self, path: SitePath) -> Collection | None:
        """Return a collection whose entries' names the caller may list, if it is one."""
        collection = self._collections.find(path)
        if collection is None or not any(self._decide(collection, letter)[0] for letter in "rnw"):
            return None
        self.seen.paths.append(collection.path)
        return collection

    def _existing(self, path: SitePath) -> Collection:
        collection = self._collections.find(path)
        if collection is None or not self._any(collection):
            raise NotFound("no such collection")
        return collection

    def _attributes(self, collection: Collection, *, registrar_opens: bool) -> dict[str, Attribute]:
        everything = registrar_opens and self._writes_all()
        letters = {letter for letter in "rn" if everything or self._decide(collection, letter)[0]}
        schema = self._collections.attributes(collection)
        return {name: one for name, one in schema.items() if one.group.letter in letters}

    def _writes_all(self) -> bool:
        return self._is_registrar and not self._principal.limited

    def _any(self, collection: Collection) -> bool:
        return any(self._decide(collection, letter)[0] for letter in "rnwp")

    def _has(self, collection: Collection, letter: str) -> bool:
        allowed, rule = self._decide(collection, letter)
        self.seen.paths.append(collection.path)
        self.seen.rules.append(rule)
        return allowed

    def _decide(self, collection: Collection, letter: str) -> tuple[bool, str]:
        if self._principal.limited and letter not in _LIMITED_MAY:
            return False, "a limited proxy may only search"
        if self._is_registrar and letter in "wp":
            return True, _REGISTRAR
        if self._clock.now() >= collection.valid_until:
            return False, "the collection has ended"
        decision = decide(collection.acl, "", self._principal, letter)
        return decision.allowed, decision.rule


def no_such_attribute() -> amga.Refused:
    """Return the answer to an attribute that is not there for this caller."""
    return amga.Refused(amga.Code.NO_SUCH_ATTRIBUTE, "no such attribute")
