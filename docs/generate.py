"""Fills the tables of the pages from the tables of the code.

``make docs`` runs it; with ``--check`` it only compares. ``tests/unit/test_docs.py`` compares too, so what
is committed is what the code does. The prose around a table is the page's own.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import click

from mdm_files.calls import CALLS
from mdm_keys.service import KeyService
from mdm_metadata.commands import COMMANDS
from srm_dicom import errors
from srm_dicom.broker.states import TRANSITIONS, Event
from srm_dicom.broker.views import FileState
from srm_dicom.cli import admin, keyserver, user
from srm_dicom.cli.exits import EXIT_CODES
from srm_dicom.rights.declare import Declaration, OpenAccess, declared
from srm_dicom.srm.operations import OPERATIONS
from srm_dicom.srm.status import ERROR_STATUS, STATE_STATUS
from srm_dicom.srm.v1.operations import OPERATIONS as V1_OPERATIONS
from srm_dicom.srm.v1.statuses import STATES as V1_STATES
from srm_dicom.transfer.intake import Intake
from srm_dicom.transfer.replies import TABLE as FTP_REPLIES
from srm_dicom.web.problems import STATUS as HTTP_STATUS
from srm_dicom.wire.dav.methods import HEADERS, METHODS
from srm_dicom.wire.dav.multistatus import PROPERTIES
from srm_dicom.wire.gridftp.verbs import TABLE as VERBS
from srm_dicom.wire.hydra import contract as hydra
from srm_dicom.wire.tape import CALLS as TAPE_CALLS
from srm_plugin_dicom import services
from srm_plugin_dicom.deidentify import options, profile, reasons

sys.path.insert(0, str(Path(__file__).parent))
from configuration_keys import configuration_keys
from markdown_parts import code, first, summary, table
from state_diagram import drawing

HERE = Path(__file__).parent


# --- compliance ----------------------------------------------------------------------------------


def srm_operations() -> str:
    """The 39 operations of SRM v2.2."""
    rows = [
        (code(operation.name), operation.since, _right(operation.right), operation.how)
        for operation in OPERATIONS.values()
    ]
    return f"All {len(OPERATIONS)} operations are done.\n\n" + table(
        ("operation", "since", "right", "how"), rows
    )


def srm_v1_operations() -> str:
    """The 14 operations of SRM v1.1."""
    rows = [(code(each.name), _right(each.right), each.how) for each in V1_OPERATIONS.values()]
    return table(("operation", "right", "how"), rows)


def srm_v1_states() -> str:
    """What a client of SRM v1.1 is told of a state."""
    return table(("state", "word"), [(state.value, code(word)) for state, word in V1_STATES.items()])


def gridftp_verbs() -> str:
    """The verbs of the GridFTP door."""
    rows = [
        (code(verb.name), verb.since if verb.done else "no", verb.clause, _right(verb.right), verb.how)
        for verb in VERBS.values()
    ]
    done = sum(verb.done for verb in VERBS.values())
    return f"{done} of {len(VERBS)} known verbs are done.\n\n" + table(
        ("verb", "since", "clause", "right", "how"), rows
    )


def webdav_methods() -> str:
    """The methods of the HTTPS/WebDAV door."""
    rows = [
        (code(each.name), each.since if each.done else "no", each.clause, _right(each.right), each.how)
        for each in METHODS.values()
    ]
    done = sum(method.done for method in METHODS.values())
    return f"{done} of {len(METHODS)} known methods are done.\n\n" + table(
        ("method", "since", "clause", "right", "how"), rows
    )


def webdav_headers() -> str:
    """The headers of the HTTPS/WebDAV door."""
    rows = [(code(header.name), header.clause, header.how) for header in HEADERS]
    return table(("header", "clause", "how"), rows)


def webdav_properties() -> str:
    """The properties that PROPFIND tells."""
    return "\n".join(f"* {code(name)}" for name in PROPERTIES)


def tape_calls() -> str:
    """The calls of the Tape REST API."""
    rows = [
        (call.name, code(f"{call.method} {call.path}"), _right(call.right), call.how)
        for call in TAPE_CALLS.values()
    ]
    return table(("call", "request", "right", "how"), rows)


def key_operations() -> str:
    """Hydra's operations and ours."""
    rows = []
    for operation in hydra.OPERATIONS.values():
        method = getattr(KeyService, _snake(operation.name))
        origin = "ours" if operation.name.endswith("Keys") else "Hydra"
        rows.append((code(operation.name), origin, _right(declared(method)), summary(method)))
    return table(("operation", "of", "right", "what"), rows)


def metadata_commands() -> str:
    """AMGA's commands and ours."""
    rows = [
        (code(command.usage), command.since, _right(command.right), summary(command.run))
        for command in sorted(COMMANDS.values(), key=lambda command: command.name)
    ]
    return table(("command", "of", "right", "what"), rows)


def file_calls() -> str:
    """The calls of the file catalogue."""
    rows = [(code(call.name), call.since, _right(call.right), summary(call.run)) for call in CALLS.values()]
    return table(("call", "since", "right", "what"), rows)


def intake_calls() -> str:
    """What a stager may do at a node."""
    calls = (("incoming", Intake.incoming), ("publish", Intake.publish), ("read", Intake.read))
    rows = [(code(f"POST /scratch/{name}"), _right(declared(call)), summary(call)) for name, call in calls]
    return table(("call", "right", "what"), rows)


def profiles() -> str:
    """The profiles that a project may name."""
    rows = [
        (code(name), ", ".join(options.BY_OPTION[each].meaning for each in chosen) or "none")
        for name, chosen in profile.PROFILES.items()
    ]
    return table(("profile", "options"), rows)


def refusals() -> str:
    """The classes of reasons why an object may not leave."""
    return "\n".join(f"* {reason.value}" for reason in reasons.Reason)


# --- reference -----------------------------------------------------------------------------------


def file_states() -> str:
    """What may happen to a file of a request."""
    events = list(Event)
    rows = [
        (f"**{state.value}**", *(follows[event].value if event in follows else "" for event in events))
        for state, follows in TRANSITIONS.items()
    ]
    return table(("", *(event.name for event in events)), rows)


def file_events() -> str:
    """What the events mean."""
    return table(("event", "meaning"), [(event.name, event.value) for event in Event])


def file_statuses() -> str:
    """What a client is told of a state."""
    rows = [
        (state.value, code(STATE_STATUS[state]), "no" if state in TRANSITIONS else "yes")
        for state in FileState
    ]
    return table(("state", "file-level status", "an end"), rows)


def error_tree() -> str:
    """Every error, and what each edge makes of it."""
    head = ("error", "meaning", "SRM", "FTP", "HTTP", "exit code")
    parts = []
    for family in errors.MdmError.__subclasses__():
        rows = [
            (
                code(leaf.__name__),
                summary(leaf),
                code(ERROR_STATUS[leaf]),
                str(FTP_REPLIES[leaf].code),
                str(HTTP_STATUS[leaf].value),
                str(EXIT_CODES[leaf]),
            )
            for leaf in errors.leaves(family)
        ]
        parts.append(f"## {summary(family)}\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def admin_commands() -> str:
    """The commands of administrators."""
    return _commands("srm-dicom", admin.main)


def user_commands() -> str:
    """The commands of users."""
    return _commands("mdm", user.main)


def key_server_commands() -> str:
    """The commands of who runs a key server."""
    return _commands("mdm-keys", keyserver.main)


def _commands(program: str, group: click.Group) -> str:
    return "\n\n".join(_command(program, words, command) for words, command in walk(group))


def _command(program: str, words: Sequence[str], command: click.Command) -> str:
    context = click.Context(command, info_name=" ".join((program, *words)))
    usage = " ".join((context.command_path, *command.collect_usage_pieces(context)))
    text = f"### `{program} {' '.join(words)}`\n\n{first(command.help)}\n\n```text\n{usage}\n```"
    records = [found for one in command.get_params(context) if (found := one.get_help_record(context))]
    rows = [(code(what), " ".join(how.split())) for what, how in records if how and "--help" not in what]
    if rows:
        text += f"\n\n{table(('option', 'meaning'), rows)}"
    if command.epilog:
        text += f"\n\nExample: `{command.epilog.removeprefix('Example: ')}`"
    return text


def walk(group: click.Group, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield every command below a group with the words that name it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            raise LookupError(name)
        if isinstance(command, click.Group):
            yield from walk(command, (*words, name))
        else:
            yield (*words, name), command


# --- parts ---------------------------------------------------------------------------------------


def _right(declaration: Declaration | None) -> str:
    if declaration is None:
        raise ValueError("an operation without a declared right")
    return f"open: {declaration.reason}" if isinstance(declaration, OpenAccess) else code(declaration.value)


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


TABLES: Mapping[str, Callable[[], str]] = {
    "srm operations": srm_operations,
    "srm first version": srm_v1_operations,
    "srm first version states": srm_v1_states,
    "gridftp verbs": gridftp_verbs,
    "webdav methods": webdav_methods,
    "webdav headers": webdav_headers,
    "webdav properties": webdav_properties,
    "tape calls": tape_calls,
    "dicom services": services.as_markdown,
    "de-identification options": options.markdown,
    "de-identification profiles": profiles,
    "de-identification refusals": refusals,
    "key operations": key_operations,
    "metadata commands": metadata_commands,
    "file catalogue calls": file_calls,
    "intake calls": intake_calls,
    "file states": file_states,
    "file events": file_events,
    "file statuses": file_statuses,
    "errors": error_tree,
    "srm-dicom commands": admin_commands,
    "mdm commands": user_commands,
    "mdm-keys commands": key_server_commands,
    "configuration keys": configuration_keys,
}
"""Every table that a page can have; a page says ``<!-- table: name -->`` and ``<!-- end -->``."""

_REGION = re.compile(r"(?P<head><!-- table: (?P<name>[a-z -]+) -->\n).*?(?P<tail><!-- end -->\n)", re.DOTALL)


DRAWINGS: Mapping[str, Callable[[], str]] = {
    "reference/file-states.svg": lambda: drawing(
        TRANSITIONS, list(FileState), "The life of a file of a request"
    ),
}
"""Every drawing, by where it is."""


def pages() -> Iterator[tuple[Path, str, str]]:
    """Yield each drawing and each page that has a table: where it is, what it says and what it should say."""
    for name, drawn in DRAWINGS.items():
        path = HERE / name
        yield path, path.read_text(encoding="utf-8") if path.exists() else "", drawn()
    for path in sorted(HERE.rglob("*.md")):
        text = path.read_text(encoding="utf-8")
        if "_build" not in path.parts and _REGION.search(text):
            yield path, text, _REGION.sub(_fill, text)


def _fill(region: re.Match[str]) -> str:
    return f"{region['head']}\n{TABLES[region['name']]().rstrip()}\n\n{region['tail']}"


def main() -> None:
    """Fill every table, or with ``--check`` say which pages are not what the code says."""
    stale = [(path, wanted) for path, text, wanted in pages() if text != wanted]
    if "--check" in sys.argv and stale:
        sys.exit(f"not what the code says: {', '.join(path.name for path, _ in stale)}; run make docs")
    for path, wanted in stale:
        path.write_text(wanted, encoding="utf-8")


if __name__ == "__main__":
    main()
