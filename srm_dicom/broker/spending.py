"""Who pays for a file that leaves: the caller's daily budget and the project's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from srm_dicom.db.usage import Ledger
from srm_dicom.identity.principal import Principal
from srm_dicom.rights.budget import Account, Budget
from srm_dicom.rights.project import Project, Release


class Spending:
    """Charges releases of files.

    Args:
        ledger: counts.
        caller: the daily budget of every single caller.
        projects: with a daily budget of their own.
    """

    def __init__(self, ledger: Ledger, caller: Budget, projects: Mapping[str, Project]) -> None:
        self._ledger = ledger
        self._caller = caller
        self._projects = projects

    def charge(
        self, principal: Principal, release: Release | None, files: Sequence[str], size_bytes: int
    ) -> None:
        """Charge a file, or a part of it.

        Args:
            principal: who gets it.
            release: what it was made for.
            files: its GUID, or those of what it is made of; read in many parts each is one object of the day.
            size_bytes: how many bytes are about to be sent.

        Raises:
            BudgetExhausted: the caller or the project has not so much left today.
        """
        accounts = [Account.of_caller(principal.dn, self._caller)]
        project = self._projects.get(release.project) if release else None
        if project is not None:
            accounts.append(Account.of_project(project.id, project.daily))
        self._ledger.charge(principal, dict.fromkeys(accounts, files), "open", size_bytes)
