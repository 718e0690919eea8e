"""Where tests keep their databases: in files of SQLite, or in a PostgreSQL that stands for the run.

``python -m srm_dicom.testing.databases COMMAND...`` starts a cluster of its own (Debian's programs, a
socket in a directory, nothing durable), runs the command with
``TEST_POSTGRESQL`` naming it, and ends the cluster.
The same tests then run on the other database.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

VARIABLE = "TEST_POSTGRESQL"
_PROGRAMS = "/usr/lib/postgresql"
_DEADLINE_S = 60
_MADE: dict[Path, str] = {}


def database_url(directory: Path, name: str) -> str:
    """Return the URL of the database `name` of a test: the same for the same directory and name."""
    path = directory / f"{name}.db"
    cluster = os.environ.get(VARIABLE)
    if not cluster:
        return f"sqlite:///{path}"
    if path not in _MADE:
        _MADE[path] = f"{cluster}&options={quote(f'-csearch_path={_schema(cluster)}')}"
    return _MADE[path]


def _schema(cluster: str) -> str:
    import psycopg  # noqa: PLC0415 - an extra

    name = f"test_{secrets.token_hex(8)}"
    with psycopg.connect(cluster, autocommit=True) as connection:
        connection.execute(f'CREATE SCHEMA "{name}"'.encode())
    return name


@contextmanager
def short_directory() -> Iterator[Path]:
    """Make a directory for a cluster: the path of its socket has to be short."""
    with tempfile.TemporaryDirectory(prefix="postgresql-") as directory:
        yield Path(directory)


@contextmanager
def cluster(directory: Path, *, machine: Sequence[str] = (), network: str = "") -> Iterator[str]:
    """Run a PostgreSQL cluster in `directory`; yield the URL of its database.

    Args:
        directory: where it keeps everything.
        machine: the command that runs commands on another machine, which it is to be on.
        network: who may come to it over TCP, at port 5432; nobody by default.
    """
    programs = max(Path(_PROGRAMS).glob("*/bin"), key=lambda found: int(found.parent.name))
    data = directory / "data"
    # PostgreSQL does not run as root.
    become: tuple[str, ...] = ()
    if os.getuid() == 0:
        shutil.chown(directory, "postgres")
        become = ("setpriv", "--reuid", "postgres", "--regid", "postgres", "--clear-groups")

    def run(program: str, *arguments: str) -> None:
        command = [*machine, *become, str(programs / program), *arguments]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=directory)

    # A language that orders names otherwise than by their bytes, as a hospital's server may have it.
    language = (
        "--encoding",
        "UTF8",
        "--locale",
        "C.UTF-8",
        "--locale-provider",
        "icu",
        "--icu-locale",
        "en-US",
    )
    run("initdb", "--pgdata", str(data), "--username", "test", "--auth", "trust", "--no-sync", *language)
    if network:
        with (data / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {network} trust\n")
    settings = {
        "listen_addresses": "0.0.0.0" if network else "",
        "unix_socket_directories": directory,
        "max_connections": 1000,
        "fsync": "off",
        "max_locks_per_transaction": 1024,
    }
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    control = ("--pgdata", str(data), "--timeout", str(_DEADLINE_S), "--wait")
    run("pg_ctl", "start", *control, "--log", str(directory / "log"), "--options", options)
    try:
        yield f"postgresql:///postgres?user=test&host={directory}"
    finally:
        run("pg_ctl", "stop", *control, "--mode", "immediate")


def main(command: Sequence[str]) -> int:
    """Run `command` beside a cluster; return its exit code."""
    with short_directory() as directory, cluster(directory) as url:
        return subprocess.run(command, env={**os.environ, VARIABLE: url}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
