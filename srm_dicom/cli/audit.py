"""``srm-dicom audit``: what was decided, and whether it still says what it said.

Whoever reads the logs is written down too, in a log ``admin-<number of the user>``.
"""

from __future__ import annotations

import json
import os
import pwd
import signal
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from srm_dicom import telemetry
from srm_dicom.audit import segments
from srm_dicom.audit.atna import frame, message_of_heads
from srm_dicom.audit.event import Action, Event, Outcome, is_object, printable
from srm_dicom.audit.forward import Forwarder, SyslogTls
from srm_dicom.audit.line import GENESIS, Line
from srm_dicom.audit.log import Head, head_of
from srm_dicom.audit.search import Damaged, Hit, search
from srm_dicom.audit.verify import verify
from srm_dicom.broker.secrets import InnerSecrets
from srm_dicom.cli.exits import reported
from srm_dicom.cli.options import config_option
from srm_dicom.crypto import signing
from srm_dicom.daemon.common import ADMIN, Common, host_credential
from srm_dicom.errors import ConfigError, InvalidRequest

PURPOSE = "audit heads"
SYSLOG_TLS_PORT = 6514


directory_option = click.option(
    "--directory",
    "directories",
    multiple=True,
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="More logs: an archive of older segments, copies of the key servers'.",
)


ca_option = click.option(
    "--ca",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Directory of the receiver's authorities; by default those of [trust].",
)


@click.group()
def audit() -> None:
    """Look at what was decided."""


@audit.command("verify")
@config_option
@click.option(
    "--heads",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Heads of an earlier day, as `audit head --sign` wrote them: shows lines cut off since.",
)
@click.option("--key", help="Public key of the site, 64 hex digits; by default this site's own.")
@directory_option
@reported
def audit_verify(config: Path, heads: Path | None, key: str | None, directories: tuple[Path, ...]) -> None:
    """Find any gap or edit in this site's audit logs; exit code 1 if there is one."""
    common = Common(config, ADMIN)
    known = _read_heads(common, heads, key) if heads else {}
    logs = segments.logs((*directories, common.config.audit))
    problems = [
        f"{name}: {one}" for name, files in logs.items() for one in verify(*files, known=known.get(name))
    ]
    problems += [f"{name}: the log is gone" for name in sorted(set(known) - set(logs))]
    note(common, "audit verify", f"{len(logs)} logs, {len(problems)} problems")
    for problem in problems:
        click.echo(problem)
    if problems:
        raise SystemExit(1)
    click.echo(f"{len(logs)} logs are whole")


@audit.command("who")
@config_option
@click.argument("name")
@directory_option
@click.option("--all", "everything", is_flag=True, help="Refusals, queries and staging too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@reported
def audit_who(
    config: Path, name: str, directories: tuple[Path, ...], everything: bool, as_json: bool
) -> None:
    """Tell who got data of NAME, when and by which rule.

    NAME is a pseudonym of a patient, study or series, a path, a GUID or a key id. Exit code 1 if a log
    is damaged, for then the answer may not be complete.
    """
    common = Common(config, ADMIN)
    if not is_object(name):
        raise InvalidRequest("a name is a pseudonym, a path, a GUID or a key id")
    names = {name, *_other_names(common, name)}
    found = list(search((common.config.audit, *directories), names))
    hits = [one for one in found if isinstance(one, Hit) and (everything or one.is_release)]
    note(common, "audit who", f"{len(hits)} events told", name)
    for hit in sorted(hits, key=lambda one: one.line.when):
        click.echo(json.dumps(_told(hit)) if as_json else _line(hit))
    damaged = [one for one in found if isinstance(one, Damaged)]
    for one in damaged:
        click.echo(f"{one.path.name}: line {one.number} is not as it was written", err=True)
    if damaged:
        raise SystemExit(1)


@audit.command("head")
@config_option
@click.option("--sign", is_flag=True, help="Sign with the site's key (on a machine of the inner zone).")
@click.option("--output", "-o", type=click.Path(path_type=Path, dir_okay=False), help="A file for it.")
@click.option("--to", "receiver", help="host[:port] of a second party: send it as an audit message too.")
@ca_option
@reported
def audit_head(config: Path, sign: bool, output: Path | None, receiver: str | None, ca: Path | None) -> None:
    """Write the heads of all chains, for a second party to keep; best once a day, by a timer."""
    common = Common(config, ADMIN)
    note(common, "audit head", f"to {receiver}" if receiver else "")
    body = {"when": common.clock.now().isoformat(), "heads": _heads(common.config.audit)}
    if sign:
        key = InnerSecrets.load(common.inner().secrets).signing_key
        text = signing.sign(PURPOSE, body, key)
    else:
        text = signing.canonical(body).decode()
    if output is not None:
        output.write_text(text + "\n")
    elif receiver is None:
        click.echo(text)
    if receiver is not None:
        _send_heads(_syslog(common, receiver, ca), text, common.clock.now())


def _send_heads(receiver: SyslogTls, text: str, now: datetime) -> None:
    event = Event(action=Action.ADMINISTRATIVE, outcome=Outcome.ALLOWED, operation="audit head")
    line = Line(seq=0, prev=GENESIS, when=now, role=ADMIN, host=socket.gethostname(), event=event)
    try:
        receiver.send([frame(message_of_heads(line, text), line, now)])
    except OSError as error:
        click.echo(f"not sent: {error.strerror or type(error).__name__}", err=True)
        raise SystemExit(1) from error


@audit.command("forward")
@config_option
@click.option("--to", "receiver", required=True, help=f"host[:port]; the port is {SYSLOG_TLS_PORT}.")
@ca_option
@click.option("--once", is_flag=True, help="Send what is there and end; exit code 1 if that fails.")
@click.option(
    "--every",
    "every_s",
    type=click.FloatRange(min=0.1),
    default=5.0,
    show_default=True,
    help="Seconds between two looks at the logs.",
)
@reported
def audit_forward(config: Path, receiver: str, ca: Path | None, once: bool, every_s: float) -> None:
    """Send the logs as DICOM audit messages to a syslog receiver, over TLS.

    What the receiver does not take is sent again later; how far it has come is in the file
    ``forwarded.json`` beside the logs.
    """
    common = Common(config, ADMIN)
    telemetry.configure("audit")
    note(common, "audit forward", f"to {receiver}")
    cursor = common.config.audit / "forwarded.json"
    forwarder = Forwarder(common.config.audit, cursor, _syslog(common, receiver, ca), common.clock)
    if once:
        raise SystemExit(0 if _try(forwarder) else 1)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    while not stop.is_set():
        _try(forwarder)
        stop.wait(every_s)


def _try(forwarder: Forwarder) -> bool:
    log = telemetry.logger("audit")
    try:
        count = forwarder.forward()
    except OSError as error:
        log.warning("receiver_unavailable", reason=error.strerror or type(error).__name__)
        return False
    if count:
        log.info("forwarded", count=count)
    return True


def _syslog(common: Common, receiver: str, ca: Path | None) -> SyslogTls:
    host, colon, port = receiver.rpartition(":")
    if not colon:
        host, port = receiver, str(SYSLOG_TLS_PORT)
    if not host or not port.isdigit():
        raise InvalidRequest("a receiver is host or host:port")
    context = host_credential(common.config.trust).client_context()
    if ca is not None:
        context.load_verify_locations(capath=str(ca))
    return SyslogTls(host.strip("[]"), int(port), context)


def operator() -> str:
    """Return who gives a command, as the kernel knows it and not as the environment says."""
    uid = os.geteuid()
    try:
        return f"user:{pwd.getpwuid(uid).pw_name}"
    except KeyError:  # a user without a name
        return f"user:{uid}"


def note(
    common: Common, operation: str, rule: str, *objects: str, action: Action = Action.ADMINISTRATIVE
) -> None:
    """Write down who looks or changes something, before that happens; others may write then too.

    The log is opened anew by whoever has more to write down.
    """
    common.audit.record(
        Event(
            action=action,
            outcome=Outcome.ALLOWED,
            dn=operator(),
            operation=operation,
            objects=objects,
            rule=printable(rule),
        )
    )
    common.audit.close()
    del common.audit


def _other_names(common: Common, name: str) -> Iterator[str]:
    """Yield GUIDs, paths and key ids of the files that a name means, as far as the namespace knows."""
    for entry in common.stores.namespace.called(name):
        yield from (entry.path, entry.guid or entry.path)
        if entry.key_id:
            yield entry.key_id


def _heads(directory: Path) -> dict[str, Mapping[str, Any]]:
    try:
        return {name: head_of(files)._asdict() for name, files in segments.logs([directory]).items()}
    except ValueError as error:
        raise ConfigError(
            f"a log is damaged: {error}", advice="srm-dicom audit verify tells where."
        ) from error


def _read_heads(common: Common, path: Path, key: str | None) -> dict[str, Head]:
    if key is None:
        public = InnerSecrets.load(common.inner().secrets).signing_key.public_key()
    else:
        try:
            public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(key))
        except ValueError:
            raise InvalidRequest("a public key is 64 hexadecimal digits") from None
    text = path.read_text("ascii", errors="replace").strip()
    body = signing.verify(PURPOSE, text, signing.trusting(public))
    return {name: Head(**head) for name, head in body["heads"].items()}


def _told(hit: Hit) -> dict[str, Any]:
    event = hit.line.event
    return {
        "when": hit.line.when.isoformat(),
        "who": event.dn,
        "fqans": list(event.fqans),
        "action": event.action.value,
        "outcome": event.outcome.value,
        "operation": event.operation,
        "project": event.project,
        "rule": event.rule,
        "objects": list(hit.objects),
        "log": f"{hit.line.role}@{hit.line.host}#{hit.line.seq}",
    }


def _line(hit: Hit) -> str:
    event = hit.line.event
    words: Iterable[str] = (
        hit.line.when.isoformat(timespec="seconds"),
        f"{event.action.value} {event.outcome.value}",
        event.dn or "the site itself",
        *((f"for {event.project}",) if event.project else ()),
        f"by {event.rule}" if event.rule else "",
        " ".join(hit.objects),
    )
    return "  ".join(word for word in words if word)
