"""``srm-dicom``: what an administrator does.

Every command reads ``srm-dicom.toml``, from ``--config``, ``SRM_DICOM_CONFIG`` or ``/etc/srm-dicom``.
The commands of a storage plugin appear under its kind: ``srm-dicom dicom deidentify``.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import click
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from srm_dicom import daemon, telemetry
from srm_dicom.audit.event import is_object
from srm_dicom.cli import checks
from srm_dicom.cli.access import Explainer
from srm_dicom.cli.audit import audit, note
from srm_dicom.cli.exits import reported
from srm_dicom.cli.options import config_option
from srm_dicom.clock import SystemClock
from srm_dicom.demo.story import play
from srm_dicom.identity.explain import explain
from srm_dicom.identity.gate import TrustSettings
from srm_dicom.identity.principal import Principal
from srm_dicom.ids import Surl, parse_path
from srm_dicom.plugin.host import commands as plugin_commands

console = Console()


class WithPlugins(click.Group):
    """The group of all commands; a name that it does not know may be a storage plugin's."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, or the commands of a kind of plugin."""
        return super().get_command(ctx, cmd_name) or plugin_commands(cmd_name)


@click.group(cls=WithPlugins, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="srm-dicom")
def main() -> None:
    """Run and look after a srm-dicom site."""


@main.command()
@config_option
@click.option("--role", type=click.Choice(sorted([*daemon.ROLES, "all"])), default="all", show_default=True)
@reported
def serve(config: Path, role: str) -> None:
    """Run one role, or all of them as children, until told to stop."""
    if role == "all":
        daemon.serve_all(config)
    else:
        daemon.serve(config, role)


@main.command()
@click.argument("directory", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option("--keep", is_flag=True, help="Go on serving afterwards, for gfal-copy in the next terminal.")
@reported
def demo(directory: Path | None, keep: bool) -> None:
    """Play the whole story on a throw-away site on this machine."""
    play(directory, keep=keep, console=console)


@main.command()
@config_option
@click.option("--plugin", required=True, help="A file of plugins.d, without .toml.")
@click.argument("selector", default="")
@reported
def register(config: Path, plugin: str, selector: str) -> None:
    """Register what a plugin finds under SELECTOR (the plugin's own language)."""
    telemetry.configure("register", level=40)
    registrar = daemon.make_registrar(daemon.Common(config, "register"))
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task("looking", total=None)
        total = 0
        for total in registrar.discover(plugin, selector):
            progress.update(task, description=f"found {total} files")
        progress.update(task, description=f"registering {total} files")
        while registrar.step():
            pass
    left = registrar.pending()
    click.echo(f"{total} found, {total - left} registered, {left} waiting")
    if left:
        raise SystemExit(1)


@main.command()
@config_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@reported
def check(config: Path, as_json: bool) -> None:
    """Check all that must be right before the doors open; exit code 1 if anything is not."""
    failed = False
    for result in checks.run(config):
        failed |= not result.passed
        if as_json:
            click.echo(json.dumps(asdict(result)))
        else:
            mark = "[green]ok  [/]" if result.passed else "[red]FAIL[/]"
            console.print(f"{mark} {result.name}: {result.detail}", highlight=False, soft_wrap=True)
    if failed:
        raise SystemExit(1)


@main.command()
@config_option
@reported
def status(config: Path) -> None:
    """Show how many files of requests are in each state, and what scratch holds."""
    common = daemon.Common(config, daemon.ADMIN)
    for state, count in sorted(common.stores.requests.counts().items(), key=lambda item: item[0].value):
        click.echo(f"{state.value:12} {count}")
    click.echo(f"{'scratch':12} {common.stores.staged.used_bytes(common.node)} bytes")


@main.command("explain-credential")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--trust-dir", type=click.Path(path_type=Path), default=Path("/etc/grid-security/certificates"))
@click.option("--vomsdir", type=click.Path(path_type=Path), default=None)
@click.option("--crl", type=click.Choice(["require", "if-present"]), default="require", show_default=True)
@click.option("--host", default="localhost", help="The server's name, for VOMS targets.")
@click.option("--key", type=click.Path(path_type=Path, dir_okay=False), default=None)
@click.option("--json", "as_json", is_flag=True)
@reported
def explain_credential(
    file: Path,
    trust_dir: Path,
    vomsdir: Path | None,
    crl: Literal["require", "if-present"],
    host: str,
    key: Path | None,
    as_json: bool,
) -> None:
    """Say what the doors would say to a credential; exit code 1 if they would refuse it."""
    telemetry.configure("explain-credential")
    trust = TrustSettings(certificates=trust_dir, crl=crl, vomsdir=vomsdir)
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


@main.command("explain-access")
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
    common = daemon.Common(config, daemon.ADMIN)
    path = Surl.parse(name).path if name.startswith("srm:") else parse_path(name)
    note(common, "explain-access", "", *((path,) if is_object(path) else ()))
    who = Principal(principal, groups, limited=limited, expires=datetime.max.replace(tzinfo=UTC))
    for right, decision in Explainer(common, who, path).answers(ask=ask):
        click.echo(f"{right:11} {'allowed' if decision.allowed else 'denied':8} {decision.rule}")


main.add_command(audit)


if __name__ == "__main__":
    main()
