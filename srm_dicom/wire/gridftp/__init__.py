"""GridFTP without I/O: bytes and events in, bytes and actions out.

The control channel is FTP (RFC 959, 2228, 2389, 2428, 3659) with Globus's extensions (GFD.020,
GFD.047). `session.ServerSession` is the server's half: feed it bytes, perform the actions that it
returns, send what it wants sent. `verbs.TABLE` is every command with the right it needs; the
compliance page is made from it. The client shares `replies`, `gsi`, `addresses` and `facts`.

Six rules of GSI that no standard tells:

A. TLS 1.3 tickets must be off (`num_tickets = 0`), or default data channels break.
B. An acceptor that has finished its handshake with nothing to send writes one NUL byte.
C. The initiator then sends one byte, ``D`` (delegate) or ``0``; refusing ``D`` is a failure.
D. On data connections the side that connects is the TLS client, whatever way the data flow.
E. After a data handshake under PROT C the NUL and the flag are exchanged and clear bytes follow on
   the same socket; under PROT S and P neither is, and data follow as TLS records.
F. A TLS client meets a *user's* proxy at the other end, which stock verification refuses as a server:
   the chain is checked by hand (`datapeer`).
"""
