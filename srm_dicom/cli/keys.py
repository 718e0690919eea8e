"""``srm-dicom keys``: what a site does with its keys on the key servers; runs in the inner zone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from srm_dicom.broker.secrets import InnerSecrets
from srm_dicom.cli.audit import note
from srm_dicom.cli.erase import erase, how_far, of_patient
from srm_dicom.cli.exits import exit_code, reported
from srm_dicom.cli.options import config_option
from srm_dicom.client.reshare import Reshared
from srm_dicom.daemon.common import ADMIN, Common
from srm_dicom.daemon.inner import key_servers, make_destroyer, make_journal
from srm_dicom.db.database import Database
from srm_dicom.errors import ConfigError, KeyQuorumMissing, KeyServerUnavailable, NotFound
from srm_dicom.registry.destruction import Destructions

KEYS_PER_STEP = 200
UNPROVEN = (
    "only as many key servers dealt as a key needs, and no other could prove that they dealt what they hold."
    " Open a few files; then give the command again with --without-proof, and the old shares go."
)


@click.group()
def keys() -> None:
    """Share keys anew, move them to other key servers, destroy them."""


keys.add_command(of_patient)
keys.add_command(erase)

_without_proof = click.option(
    "--without-proof", is_flag=True, help="Drop old shares though nobody could prove the new ones."
)


@keys.command()
@config_option
@click.option("--to", "endpoints", multiple=True, help="URL of a key server of tomorrow; by default today's.")
@click.option("--threshold", type=int, help="Shares that a key needs tomorrow; by default as today.")
@_without_proof
@reported
def reshare(config: Path, endpoints: tuple[str, ...], threshold: int | None, *, without_proof: bool) -> None:
    """Give every key fresh shares, on these or other key servers; old shares are worthless then.

    The key servers do it among themselves: no key is put together, and each stays fetchable all the time.
    Keys end then when their projects do now. An interrupted reshare goes on when it is given again. Where
    only as many of them answer as a key needs, nobody can prove that they dealt what they hold: the old
    shares stay then.
    """
    common = Common(config, ADMIN)
    endpoints = endpoints or common.config.catalogues.keys
    _reshare(common, "keys reshare", endpoints, threshold, without_proof=without_proof)


@keys.command()
@config_option
@click.argument("old")
@click.argument("new")
@_without_proof
@reported
def move(config: Path, old: str, new: str, *, without_proof: bool) -> None:
    """Move what the key server at the URL OLD holds to the one at NEW; OLD may be dead.

    No share travels: the others share every key anew, and what is left at OLD is worthless.
    """
    common = Common(config, ADMIN)
    today = common.config.catalogues.keys
    if old not in today:
        raise ConfigError(f"{old} is none of this site's key servers", advice=f"They are {', '.join(today)}.")
    endpoints = tuple(new if url == old else url for url in today)
    _reshare(common, "keys move", endpoints, None, without_proof=without_proof)


@keys.command()
@config_option
@click.argument("key_id", nargs=-1, required=True)
@click.option("--yes", is_flag=True, help="Do not ask back.")
@reported
def destroy(config: Path, key_id: tuple[str, ...], yes: bool) -> None:
    """Destroy keys for good: nobody opens their files again. Asked for until enough servers confirm."""
    common = Common(config, ADMIN)
    journal = make_journal(common)
    halves = {one.key_id: one.public_key for _, one in journal.known_keys() if one.key_id in key_id}
    ordered = {order.key_id for order in _destructions(common).orders(ids=key_id)}
    for missing in set(key_id) - set(halves) - ordered:
        raise NotFound(f"this site has no key {missing}")
    if not yes:
        click.confirm(f"Destroy {len(key_id)} keys? Their files cannot be opened any more.", abort=True)
    destroyer = make_destroyer(common)  # and its log, for which others wait: not while somebody is asked
    destroyer.order(halves)
    for one in halves:
        journal.forget_key(one)
    destroyer.step()
    _tell_destroyed(_destructions(common), key_id)


@keys.command()
@config_option
@reported
def replay(config: Path) -> None:
    """Tell the key servers again what was destroyed: after one was restored from a backup."""
    common = Common(config, ADMIN)
    note(common, "keys replay", "")
    make_destroyer(common).replay()
    _tell_destroyed(_destructions(common))


@keys.command("list")
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@reported
def list_(config: Path, as_json: bool) -> None:
    """List the keys of this site, and those that are destroyed or shall be."""
    common = Common(config, ADMIN)
    rows = [(one.key_id, project, "kept") for project, one in make_journal(common).known_keys()]
    rows += [
        (order.key_id, "", "destroyed" if order.done else "to be destroyed")
        for order in _destructions(common).orders()
    ]
    for key_id, project, state in rows:
        if as_json:
            click.echo(json.dumps({"key_id": key_id, "project": project, "state": state}))
        else:
            click.echo(f"{key_id}  {state:15} {project}".rstrip())


def _destructions(common: Common) -> Destructions:
    return Destructions(Database(common.inner().database))


def _reshare(
    common: Common, operation: str, endpoints: Sequence[str], threshold: int | None, *, without_proof: bool
) -> None:
    """Share every key anew, then replay what was destroyed to the servers of tomorrow.

    Raises:
        SystemExit: some key was not; the others were.
    """
    signing_key = InnerSecrets.load(common.inner().secrets).signing_key
    servers, k = key_servers(common), threshold or common.config.catalogues.threshold
    resharer = servers.resharer(endpoints, k, signing_key, without_proof=without_proof)
    proof = " without proof" if without_proof else ""
    note(common, operation, f"{k} of {len(endpoints)}{proof}: {' '.join(endpoints)}")
    outcomes: list[Reshared] = []
    every = list(make_journal(common).known_keys())
    known = [(project, one) for project, one in every if project in common.projects]
    if len(known) < len(every):
        ended = len(every) - len(known)
        click.echo(f"{ended} keys stay as they are: their projects are not configured any more", err=True)
    for start in range(0, len(known), KEYS_PER_STEP):
        batch = known[start : start + KEYS_PER_STEP]
        of_keys = {one.key_id: common.projects[project] for project, one in batch}
        outcomes += resharer.reshare(
            {key_id: project.key_acl() for key_id, project in of_keys.items()},
            {key_id: project.valid_until for key_id, project in of_keys.items()},
        )
        click.echo(f"{len(outcomes)} of {len(known)} keys", err=True)
    make_destroyer(common, key_servers(common, endpoints)).replay()
    _tell(outcomes, endpoints, k, common)


def _tell(outcomes: Sequence[Reshared], endpoints: Sequence[str], k: int, common: Common) -> None:
    failed = [(one.key_id, one.error) for one in outcomes if one.error is not None]
    for key_id, error in failed:
        click.echo(f"{key_id}: {error.message}", err=True)
    left = sorted({server for one in outcomes for server in one.left})
    for server in left:
        click.echo(f"{server} was not reached: what it has are old shares", err=True)
    click.echo(
        f"{len(outcomes) - len(failed)} of {len(outcomes)} keys have fresh shares, {k} of {len(endpoints)}"
    )
    if failed:
        click.echo(f"{len(failed)} keys have none yet: give the command again", err=True)
        raise SystemExit(exit_code(failed[0][1]))
    if (tuple(endpoints), k) != (tuple(common.config.catalogues.keys), common.config.catalogues.threshold):
        click.echo(f"Now set catalogues.keys = {json.dumps(list(endpoints))} and catalogues.threshold = {k},")
        click.echo("also in the site.json of your users.")
    if unproven := sum(not one.proven for one in outcomes):
        click.echo(f"{unproven} of them keep their old shares too: {UNPROVEN}", err=True)
        raise SystemExit(exit_code(KeyQuorumMissing("")))


def _tell_destroyed(destructions: Destructions, ids: Sequence[str] | None = None) -> None:
    waiting = asked_on = 0
    for order in destructions.orders(ids=ids):
        click.echo(f"{order.key_id}: {how_far(order)}")
        waiting += not order.done
        asked_on += order.open
    if asked_on > waiting:
        click.echo("not every server has confirmed; the registrar goes on asking", err=True)
    if waiting:
        click.echo(f"{waiting} keys are not destroyed yet; the registrar goes on asking", err=True)
        raise SystemExit(exit_code(KeyServerUnavailable("")))
