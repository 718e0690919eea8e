"""Verbs of conformance cases: spaces."""

from __future__ import annotations

from collections.abc import Sequence

import zeep

from srm_dicom.testing.verbs.calls import Calls, number, policy_of, split


class Spaces(Calls):
    """Spaces and what is in them."""

    def do_reserve(self, words: Sequence[str]) -> list[str]:
        """``reserve size=N [lifetime=S] [about=TEXT] [policy=P] [latency=L]``."""
        options = split(words)[1]
        policy = None if "unspoken" in options else policy_of(options)
        codes = self.call(
            "srmReserveSpace",
            retentionPolicyInfo=policy or zeep.xsd.SkipValue,
            desiredSizeOfGuaranteedSpace=int(options.get("size", 1000)),
            desiredLifetimeOfReservedSpace=number(options, "lifetime"),
            userSpaceTokenDescription=options.get("about"),
        )
        if self.answer.spaceToken:
            self.tokens.append(self.answer.spaceToken)
        return codes

    def do_reserved(self, words: Sequence[str]) -> list[str]:
        """Ask for the status of a reservation."""
        return self.call("srmStatusOfReserveSpaceRequest", requestToken=self.token(split(words)[1]))

    def do_update(self, words: Sequence[str]) -> list[str]:
        """``update size=N|lifetime=S``."""
        options = split(words)[1]
        return self.call(
            "srmUpdateSpace",
            spaceToken=self.token(options),
            newSizeOfGuaranteedSpaceDesired=number(options, "size"),
            newLifeTime=number(options, "lifetime"),
        )

    def do_updated(self, words: Sequence[str]) -> list[str]:
        """Ask for the status of a change of a space."""
        return self.call("srmStatusOfUpdateSpaceRequest", requestToken=self.token(split(words)[1]))

    def do_free(self, words: Sequence[str]) -> list[str]:
        """Release a space."""
        return self.call("srmReleaseSpace", spaceToken=self.token(split(words)[1]))

    def do_space(self, words: Sequence[str]) -> list[str]:
        """Ask about a space."""
        tokens = {"stringArray": [self.token(split(words)[1])]}
        return self.call("srmGetSpaceMetaData", arrayOfSpaceTokens=tokens)

    def do_unused(self, words: Sequence[str]) -> None:
        """``unused N``: what the space of the last `space` has left."""
        assert self.answer.arrayOfSpaceDetails.spaceDataArray[0].unusedSize == int(words[0])

    def do_spaces(self, words: Sequence[str]) -> list[str]:
        """``spaces [about=TEXT]``."""
        return self.call("srmGetSpaceTokens", userSpaceTokenDescription=split(words)[1].get("about"))

    def do_into(self, words: Sequence[str]) -> list[str]:
        """``into name...``: srmChangeSpaceForFiles to the last space."""
        names, options = split(words)
        return self.call(
            "srmChangeSpaceForFiles", arrayOfSURLs=self.urls(names), targetSpaceToken=self.token(options)
        )

    def do_stay(self, words: Sequence[str]) -> list[str]:
        """``stay name...``: srmExtendFileLifeTimeInSpace."""
        names, options = split(words)
        return self.call(
            "srmExtendFileLifeTimeInSpace", arrayOfSURLs=self.urls(names), spaceToken=self.token(options)
        )

    def do_purge(self, words: Sequence[str]) -> list[str]:
        """``purge name...``: srmPurgeFromSpace."""
        names, options = split(words)
        return self.call("srmPurgeFromSpace", arrayOfSURLs=self.urls(names), spaceToken=self.token(options))
