"""``srm-dicom explain-credential`` and ``explain-access``: what would be decided, and by which rule."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import click

from srm_dicom import telemetry
from srm_dicom.audit.event import is_object
from srm_dicom.cli.access import Explainer
from srm_dicom.cli.audit import note
from srm_dicom.cli.exits import reported
from srm_dicom.cli.options import config_option
from srm_dicom.clock import SystemClock
from srm_dicom.daemon.common import ADMIN, Common
from srm_dicom.identity.explain import explain
from srm_dicom.identity.gate import TrustSettings
from srm_dicom.identity.principal import Principal

_file = click.Path(path_type=Path, dir_okay=False)


@click.command("explain-credential")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--trust-dir",
    type=click.Path(path_type=Path),
    default=Path("/etc/grid-security/certificates"),
    show_default=True,
    help="Directory of the trusted authorities.",
)
@click.option(
    "--vomsdir", type=click.Path(path_type=Path), help="Directory of VOMS servers; without it none."
)
@click.option(
    "--crl",
    type=click.Choice(["require", "if-present"]),
    default="require",
    show_default=True,
    help="Whether every authority has to have a revocation list.",
)
@click.option("--host", default="localhost", help="The server's name, for VOMS targets.")
@click.option("--key", type=_file, help="Key of the certificate, if it is in another file.")
@click.option(
    "--tls", type=click.Choice(["ssl", "m2crypto"]), default="ssl", show_default=True, help="Which TLS asks."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@reported
def explain_credential(
    file: Path,
    trust_dir: Path,
    vomsdir: Path | None,
    crl: Literal["require", "if-present"],
    host: str,
    key: Path | None,
    tls: Literal["ssl", "m2crypto"],
    as_json: bool,
) -> None:
    """Say what the doors would say to a credential; exit code 1 if they would refuse it."""
    telemetry.configure("explain-credential")
    trust = TrustSettings(certificates=trust_dir, crl=crl, vomsdir=vomsdir, tls=tls)
    verdict = explain(file, trust, clock=SystemClock(), host=host, key=key)
    if as_json:
        click.echo(json.dumps(asdict(verdict)))
    elif verdict.accepted:
        click.echo(f"accepted: {verdict.dn}")
        for fqan in verdict.fqans:
            click.echo(f"  group:  {fqan}")
        if verdict.limited:
            click.echo("  limited: may read, may not administer")
    else:
        click.echo(f"refused: {verdict.reason}")
    if not verdict.accepted:
        raise SystemExit(1)


@click.command("explain-access")
@config_option
@click.argument("principal")
@click.argument("name")
@click.option("--group", "groups", multiple=True, help="An FQAN that the caller has.")
@click.option("--limited", is_flag=True, help="The caller comes with a limited proxy.")
@click.option("--ask", is_flag=True, help="Ask the key and metadata servers what they have.")
@reported
def explain_access(
    config: Path, principal: str, name: str, groups: tuple[str, ...], limited: bool, ask: bool
) -> None:
    """Say which rules decide what PRINCIPAL (a DN) may do with NAME (a SURL or path)."""
    common = Common(config, ADMIN)
    path = common.path_of(name)
    note(common, "explain-access", "", *((path,) if is_object(path) else ()))
    ends = datetime.max.replace(tzinfo=UTC)
    emergency = common.config.trust.emergency_role in groups and not limited
    who = Principal(principal, groups, limited, ends, emergency=emergency)
    for right, decision in Explainer(common, who, path).answers(ask=ask):
        click.echo(f"{right:11} {'allowed' if decision.allowed else 'denied':8} {decision.rule}")
