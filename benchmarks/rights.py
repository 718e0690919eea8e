"""ACL decisions a second, on one core: what a door asks of the evaluator for every name it shows.

    python -m benchmarks.rights

The ACL is a project's as the registrar writes it, with as many members as `--members`; the callers are a
member, a member by group with many groups, and a stranger, who takes the whole way to "no".
"""

from __future__ import annotations

import argparse
import json
import time
from datetime import UTC, datetime

from srm_dicom.identity.principal import Principal
from srm_dicom.rights.acl import Acl, Entry, Tag
from srm_dicom.rights.evaluate import decide

FAR = datetime(2040, 1, 1, tzinfo=UTC)
WANTED = 100_000


def acl_of(members: int) -> Acl:
    users = tuple(
        Entry(Tag.USER, f"/DC=org/DC=example/OU=people/CN=User {n}", frozenset("r")) for n in range(members)
    )
    group = Entry(Tag.GROUP, "/biomed/radiology/Role=physician", frozenset("r"))
    return Acl((*users, group, Entry(Tag.MASK, "", frozenset("rx"))))


CALLERS = {
    "member": Principal("/DC=org/DC=example/OU=people/CN=User 0", (), False, FAR),
    "group": Principal(
        "/CN=Alice", (*(f"/biomed/{n}" for n in range(20)), "/biomed/radiology/Role=physician"), False, FAR
    ),
    "stranger": Principal("/CN=Mallory", ("/other",), False, FAR),
}


def rate(acl: Acl, caller: Principal, seconds: float) -> float:
    count, begun = 0, time.process_time()
    while (spent := time.process_time() - begun) < seconds:
        for _ in range(1000):
            decide(acl, "", caller, "r")
        count += 1000
    return count / spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--members", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=1.0)
    options = parser.parse_args()
    acl = acl_of(options.members)
    rates = {name: round(rate(acl, caller, options.seconds)) for name, caller in CALLERS.items()}
    print(json.dumps({"decisions_per_s": rates, "members": options.members, "wanted": WANTED}))
    if min(rates.values()) < WANTED:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
