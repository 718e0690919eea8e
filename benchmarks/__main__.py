"""Every benchmark of this directory, one after the other, each in a process of its own and bounded in time.

    python -m benchmarks [--full] [NAME ...]

Short runs by default; ``--full`` leaves each benchmark its own sizes. A benchmark that misses a program
or takes too long says so, and the others go on; the exit code is 1 then.
"""

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NAMES = sorted(path.stem for path in HERE.glob("[!_]*.py"))
SHORT = {
    "get": ("--repeats", "1", "--peer-files", "20"),
    "cost": ("--counts", "10,100,1000"),
    "connections": ("--peers", "300", "--rounds", "10"),
    "transfer": ("--megabytes", "128", "--files", "100", "--repeats", "3"),
    "keys": ("--keys", "1000", "--repeats", "10"),
    "srm": ("--calls", "100", "--entries", "500", "--requests", "20000", "--clients", "50"),
    "webdav": ("--megabytes", "128", "--files", "100", "--repeats", "3"),
}
SHORT_S = 300
FULL_S = 3600


def run(name: str, *, full: bool) -> bool:
    """Run one benchmark and tell whether it went well."""
    print(f"== {name}", flush=True)
    arguments = () if full else SHORT.get(name, ())
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    try:
        done = subprocess.run(command, cwd=HERE.parent, timeout=FULL_S if full else SHORT_S, check=False)
    except subprocess.TimeoutExpired:
        print(f"{name} did not end in time", flush=True)
        return False
    return done.returncode == 0


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all by default")
    options.add_argument("--full", action="store_true", help="with each benchmark's own sizes")
    chosen = options.parse_args()
    unknown = set(chosen.names) - set(NAMES)
    if unknown:
        options.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    failed = [name for name in chosen.names or NAMES if not run(name, full=chosen.full)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
