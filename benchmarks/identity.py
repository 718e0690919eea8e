"""What knowing the caller costs: logins, decisions of ACLs, and how soon a revocation is felt.

    python -m benchmarks.identity [--logins 200] [--repeats 5] [--decisions 200000]

Handshakes are in memory, with RSA keys of 2048 bits and the chains of grid users. The bare handshake is
OpenSSL's, with the same chain and checks and nothing of ours: with a context for each connection, as
TLS 1.2 without resumption needs it, and (in brackets) with one context for all. Rounds are interleaved,
medians are printed; only the CPU seconds of the server's side count.
"""

from __future__ import annotations

import argparse
import ssl
import statistics
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from srm_dicom.clock import SystemClock
from srm_dicom.errors import NotAuthenticated
from srm_dicom.identity.gate import Gate, TrustSettings
from srm_dicom.identity.principal import Principal
from srm_dicom.identity.voms import Memory
from srm_dicom.identity.watch import LOOK_EVERY_S, Watch
from srm_dicom.rights.acl import Acl
from srm_dicom.rights.evaluate import decide
from srm_dicom.testing.pki import TestPki
from srm_dicom.testing.voms import TestVo

GROUPS = ("/biomed/radiology/Role=physician", "/biomed", "/biomed/radiology")


def bare_context(pki: TestPki) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    context.verify_flags |= ssl.VerifyFlags.VERIFY_ALLOW_PROXY_CERTS | ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN
    context.load_verify_locations(capath=str(pki.trust_dir))
    context.load_cert_chain(pki.host().certificate, pki.host().key)
    return context


def server_seconds(client: ssl.SSLContext, make_context, identify) -> float:
    """Return the CPU seconds that the server's side of one login takes."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    theirs = client.wrap_bio(to_client, to_server, server_hostname="localhost")
    begun = time.process_time()
    ours = make_context().wrap_bio(to_server, to_client, server_side=True)
    spent = time.process_time() - begun
    done = False
    while not done:
        with suppress(ssl.SSLWantReadError):
            theirs.do_handshake()
        begun = time.process_time()
        with suppress(ssl.SSLWantReadError):
            ours.do_handshake()
            identify(ours)
            done = True
        spent += time.process_time() - begun
    return spent


def forgetful(gate: Gate, tls: ssl.SSLObject) -> None:
    gate._memory = Memory()
    gate.identify(tls)


def logins(pki: TestPki, count: int, repeats: int) -> None:
    vo = TestVo(pki, "biomed")
    trust = TrustSettings(pki.trust_dir, vomsdir=vo.vomsdir)
    gate = Gate(trust, pki.host(), SystemClock())
    kept = bare_context(pki)
    chains = {
        "user": pki.user("alice"),
        "proxy": pki.proxy(pki.user("alice")),
        "proxy with groups": vo.proxy(pki.user("alice"), *GROUPS),
    }
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        for name, credential in chains.items():
            client = credential.client_context(maximum=version)
            kinds = {
                "bare, one context": (lambda: kept, lambda _tls: None),
                "bare, context each": (lambda: bare_context(pki), lambda _tls: None),
                "gate, first login": (gate.server_context, lambda tls: forgetful(gate, tls)),
                "gate": (gate.server_context, gate.identify),
            }
            rates: dict[str, list[float]] = {kind: [] for kind in kinds}
            for _ in range(repeats):
                for kind, (make_context, identify) in kinds.items():
                    spent = sum(
                        server_seconds(client, make_context, identify) for _ in range(count // repeats)
                    )
                    rates[kind].append(count // repeats / spent)
            medians = {kind: statistics.median(values) for kind, values in rates.items()}
            shown = ", ".join(f"{kind} {rate:.0f}/s" for kind, rate in medians.items())
            each, one = medians["bare, context each"], medians["bare, one context"]
            ratio, shared = medians["gate"] / each, medians["gate"] / one
            print(f"{version.name} {name}: {shown}; ratio {ratio:.2f} ({shared:.2f})")


def decisions(count: int) -> None:
    lines = [f'user:"/DC=org/CN=user {number}":r' for number in range(5)]
    lines += ["user::rwx", 'group:"/biomed/radiology":rx', 'group:"/astro":r', "mask::rx", "other::-"]
    acl = Acl.parse("\n".join(lines))
    caller = Principal("/DC=org/CN=Alice", GROUPS, False, datetime.now(UTC) + timedelta(hours=1))
    begun = time.process_time()
    for _ in range(count):
        decide(acl, "", caller, "r", "/biomed/x")
    print(f"ACL of {len(lines)} lines, by a group: {count / (time.process_time() - begun):.0f} decisions/s")


def revocation(pki: TestPki) -> None:
    """Measure how long a kept session outlives a CRL, asking as often as doors do at least."""
    gate = Gate(TrustSettings(pki.trust_dir), pki.host(), SystemClock())
    user = pki.user("mallory")
    client, box = user.client_context(), []
    server_seconds(client, gate.server_context, lambda tls: box.append(gate.identify(tls)))
    watch = Watch(gate, box[0], SystemClock())
    pki.revoke(user)
    begun = time.monotonic()
    try:
        while time.monotonic() - begun < 60:
            time.sleep(0.25)
            watch()
    except NotAuthenticated as error:
        felt_s = time.monotonic() - begun
        print(f"revocation felt after {felt_s:.1f} s (asks every {LOOK_EVERY_S:.0f} s): {error}")
    begun = time.process_time()
    for _ in range(2000):
        gate._check_lists(box[0])
    print(f"asking again: {(time.process_time() - begun) / 2000 * 1e6:.0f} us")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--logins", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--decisions", type=int, default=200_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        pki = TestPki(Path(directory))
        logins(pki, options.logins, options.repeats)
        decisions(options.decisions)
        revocation(pki)


if __name__ == "__main__":
    main()
