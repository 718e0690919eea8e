"""Verbs of conformance cases: names, what is told of them, and permissions."""

from __future__ import annotations

from collections.abc import Sequence

from srm_dicom.testing.verbs.calls import Calls, number, split


class Names(Calls):
    """Directories, files and permissions."""

    def do_mkdir(self, words: Sequence[str]) -> list[str]:
        """Make a directory."""
        return self.call("srmMkdir", SURL=self.surl(words[0]))

    def do_rmdir(self, words: Sequence[str]) -> list[str]:
        """``rmdir name [recursive]``."""
        names, options = split(words)
        return self.call("srmRmdir", SURL=self.surl(names[0]), recursive="recursive" in options)

    def do_rm(self, words: Sequence[str]) -> list[str]:
        """Remove files."""
        return self.call("srmRm", arrayOfSURLs=self.urls(words))

    def do_mv(self, words: Sequence[str]) -> list[str]:
        """Rename."""
        return self.call("srmMv", fromSURL=self.surl(words[0]), toSURL=self.surl(words[1]))

    def do_ls(self, words: Sequence[str]) -> list[str]:
        """``ls name... [levels=N] [offset=N] [count=N] [all]``; `shown` tells what was listed."""
        names, options = split(words)
        return self.call(
            "srmLs",
            arrayOfSURLs=self.urls(names),
            fullDetailedList=True,
            numOfLevels=number(options, "levels"),
            offset=number(options, "offset"),
            count=number(options, "count"),
            allLevelRecursive=True if "all" in options else None,
            storageSystemInfo=None,
        )

    def do_shown(self, words: Sequence[str]) -> None:
        """``shown name...``: exactly these stood below the first name of the last ls."""
        (top,) = self.answer.details.pathDetailArray
        below = top.arrayOfSubPaths.pathDetailArray if top.arrayOfSubPaths else []
        assert [one.path.rpartition("/")[2] for one in below] == list(words)

    def do_size(self, words: Sequence[str]) -> None:
        """``size N``: of the first name of the last ls, with a checksum beside it."""
        top = self.answer.details.pathDetailArray[0]
        assert top.size == int(words[0])
        assert top.checkSumType == "ADLER32"
        assert len(top.checkSumValue) == len("00000001")

    def do_detailed(self, _words: Sequence[str]) -> None:
        """Look whether the first name of the last ls is described as a full listing has to."""
        top = self.answer.details.pathDetailArray[0]
        assert top.createdAtTime is not None
        assert top.lastModificationTime is not None
        assert top.ownerPermission.userID
        assert top.ownerPermission.mode
        assert top.otherPermission is not None
        assert top.type in ("FILE", "DIRECTORY")

    def do_left(self, words: Sequence[str]) -> None:
        """``left LEAST MOST``: seconds that the last status has for the pin of its first file."""
        file = self.answer.arrayOfFileStatuses.statusArray[0]
        kept = file.remainingPinTime if hasattr(file, "remainingPinTime") else file.remainingPinLifetime
        assert int(words[0]) <= (kept or 0) <= int(words[1]), kept

    def do_permit(self, words: Sequence[str]) -> list[str]:
        """``permit name ADD|REMOVE|CHANGE other=R``."""
        names, options = split(words)
        return self.call(
            "srmSetPermission",
            SURL=self.surl(names[0]),
            permissionType=names[1],
            ownerPermission=options.get("owner"),
            otherPermission=options.get("other"),
        )

    def do_check(self, words: Sequence[str]) -> list[str]:
        """Ask srmCheckPermission."""
        return self.call("srmCheckPermission", arrayOfSURLs=self.urls(words))

    def do_permissions(self, words: Sequence[str]) -> list[str]:
        """Ask srmGetPermission."""
        return self.call("srmGetPermission", arrayOfSURLs=self.urls(words))
