"""``srm-dicom``: what an administrator does.

Every command reads ``srm-dicom.toml``, from ``--config``, ``SRM_DICOM_CONFIG`` or ``/etc/srm-dicom``.
A command's code is loaded when it is called: who serves users has neither the demo nor the inner zone in
its process. The commands of a storage plugin appear under its kind: ``srm-dicom dicom deidentify``.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

import click

from srm_dicom import telemetry
from srm_dicom.plugin.host import commands as plugin_commands

COMMANDS: Mapping[str, str] = {
    "acl": "acl:acl",
    "audit": "audit:audit",
    "ban": "ban:ban",
    "check": "operate:check",
    "demo": "play:demo",
    "explain-access": "explain:explain_access",
    "explain-credential": "explain:explain_credential",
    "init": "init:init",
    "keys": "keys:keys",
    "register": "operate:register",
    "rights": "rights:rights",
    "serve": "serve:serve",
    "status": "state:status",
}
"""Where each command is, below `srm_dicom.cli`."""


class Lazy(click.Group):
    """The group of all commands; a name that is not in the table may be a kind of storage plugin."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of our own commands."""
        del ctx
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load a command, or the commands of a kind of plugin."""
        del ctx
        if cmd_name not in COMMANDS:
            return plugin_commands(cmd_name)
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(f"srm_dicom.cli.{module}"), name)
        return command


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="srm-dicom")
def main() -> None:
    """Run a site, and look after it."""
    click.get_current_context().with_resource(telemetry.aside())


if __name__ == "__main__":
    main()
