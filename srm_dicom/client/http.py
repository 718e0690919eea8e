"""An HTTP/1.1 client for https and httpg that shows a grid credential.

It keeps one connection alive. A connection that the server has closed in the meantime is noticed before a
request is sent on it; one that breaks during a request is replaced once, and only if the request may be
repeated. Every exchange has a deadline and every answer a bound. Not for two threads at once.
"""

from __future__ import annotations

import select
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import h11

from srm_dicom.client.exchange import BrokenOff, Exchange, Guarded, Response
from srm_dicom.clock import Clock, SystemClock
from srm_dicom.errors import CatalogueUnavailable, InvalidRequest, MdmError
from srm_dicom.identity.credential import TRUST_ADVICE, Shown, refusal
from srm_dicom.web.stream import PeerGone, Stalled, Stream
from srm_dicom.wire.httpg import NO_DELEGATION

__all__ = ["Connect", "HttpClient", "Response", "Started", "Upload"]

MAX_ANSWER_BYTES = 64 * 1024 * 1024

Connect = Callable[[tuple[str, int], float], socket.socket]

_PORTS = {"https": 443, "httpg": 8446}
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PROPFIND"})


class HttpClient:
    """Speaks to one server.

    Args:
        url: ``https://host[:port]`` or ``httpg://host[:port]``; a path is ignored.
        credential: shown to the server, and whose authorities the server is verified against.
        connect: makes the TCP connection to (host, port) within so many seconds.
        timeout_s: for connecting, and again for an answer to begin; large bodies get more as they move.
        max_answer_bytes: of a body that is held in memory.
        unavailable: the leaf that is raised when the server does not answer.
        clock: measures the deadlines.

    Raises:
        InvalidRequest: the URL is of another kind.
    """

    def __init__(
        self,
        url: str,
        credential: Shown,
        *,
        timeout_s: float = 30.0,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        unavailable: type[MdmError] = CatalogueUnavailable,
        clock: Clock | None = None,
        connect: Connect = socket.create_connection,
    ) -> None:
        self._httpg, self._address = _endpoint(url)
        self._credential = credential
        self._timeout_s = timeout_s
        self._max_answer_bytes = max_answer_bytes
        self._unavailable = unavailable
        self._clock = clock or SystemClock()
        self._tcp = connect
        self._connection: Exchange | None = None
        self._head: tuple[object, h11.Request] | None = None

    def request(
        self,
        method: str,
        target: str,
        body: bytes = b"",
        headers: Iterable[tuple[str, str]] = (),
        *,
        repeatable: bool | None = None,
        into: Callable[[bytes], object] | None = None,
    ) -> Response:
        """Send a request and read the whole answer.

        Args:
            method: of HTTP.
            target: path and query, already encoded.
            body: sent with its length.
            headers: beside Host and Content-Length.
            repeatable: whether doing it twice does no harm; None decides by the method.
            into: takes the body of a successful answer piece by piece; the answer's own is empty then.

        Raises:
            InvalidRequest: the target or a header has a character that HTTP does not carry.
            NotAuthenticated: the server refused the credential.
            TooLarge: the answer exceeds the bound.
            MdmError: `unavailable`: no connection, no trust in the server, no answer in time.
        """
        twice = method in _REPEATABLE if repeatable is None else repeatable
        request = self._request(method, target, body, headers)
        fresh = self._connection is None or self._connection.dead()
        if fresh:
            self.close()
        try:
            return self._exchange(request, body, into)
        except PeerGone as error:
            if fresh or not twice:
                raise self._gone(error) from error
        try:
            return self._exchange(request, body, into)
        except PeerGone as error:
            raise self._gone(error) from error

    def start(
        self, method: str, target: str, body: bytes = b"", headers: Iterable[tuple[str, str]] = ()
    ) -> Started | None:
        """Send a request on the connection that is kept, and leave it to the caller when to read the answer.

        Nothing else may be asked before that. Sending waits as `request` does: for small requests.

        Returns:
            None when no connection is kept, or it is dead: then `request` makes another.

        Raises:
            InvalidRequest: as `request`.
        """
        connection = self._connection
        if connection is None or connection.dead():
            self.close()
            return None
        request = self._request(method, target, body, headers)
        try:
            with Guarded(self._failed):
                connection.begin(request, body)
        except PeerGone:
            return None
        return Started(self, connection)

    def upload(
        self,
        target: str,
        headers: Iterable[tuple[str, str]] = (),
        *,
        method: str = "POST",
        size_bytes: int | None = None,
    ) -> Upload:
        """Begin a request whose body is written piece by piece; nothing else may be asked before it ends.

        Args:
            target: path and query, already encoded.
            headers: beside Host and the framing.
            method: of HTTP.
            size_bytes: of the body; None sends it in chunks.

        Raises:
            InvalidRequest, NotAuthenticated, MdmError: as `request`.
        """
        length = (
            ("Transfer-Encoding", "chunked") if size_bytes is None else ("Content-Length", str(size_bytes))
        )
        try:
            request = h11.Request(
                method=method, target=target, headers=[("Host", self._name), *headers, length]
            )
        except h11.LocalProtocolError as error:
            raise InvalidRequest("the target or a header cannot be sent by HTTP") from error
        if self._connection is None or self._connection.dead():
            self.close()
            self._connection = self._connect()
        return Upload(self, self._connection, request)

    def close(self) -> None:
        """Close the connection; another request opens a new one."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def _name(self) -> str:
        return f"{self._address[0]}:{self._address[1]}"

    def _request(
        self, method: str, target: str, body: bytes, headers: Iterable[tuple[str, str]]
    ) -> h11.Request:
        """Return the head of a request; one like the last is not checked again.

        Raises:
            InvalidRequest: it has a character that HTTP does not carry.
        """
        whole = (method, target, self._headers(method, body, headers))
        if self._head is None or self._head[0] != whole:
            try:
                self._head = whole, h11.Request(method=method, target=target, headers=whole[2])
            except h11.LocalProtocolError as error:
                raise InvalidRequest("the target or a header cannot be sent by HTTP") from error
        return self._head[1]

    def _headers(self, method: str, body: bytes, headers: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
        all_of_them = [("Host", self._name), *headers]
        if body or method in ("POST", "PUT"):
            all_of_them.append(("Content-Length", str(len(body))))
        return all_of_them

    def _exchange(
        self, request: h11.Request, body: bytes, into: Callable[[bytes], object] | None
    ) -> Response:
        connection = self._connection = self._connection or self._connect()
        with Guarded(self._failed):
            with suppress(PeerGone):  # it may have answered before it had read everything
                connection.send(request, body)
            response = connection.receive(into)
        if not connection.reusable:
            self.close()
        return response

    def _failed(self, error: BaseException) -> MdmError | None:
        """Close the connection; returns what an exchange has failed of, where the error does not tell."""
        self.close()
        if isinstance(error, Stalled):
            return self._unavailable(f"{self._name} did not answer within {self._timeout_s:g} s")
        if isinstance(error, h11.ProtocolError | BrokenOff):
            return self._unavailable(f"{self._name} broke off in the middle of its answer")
        return None

    def _connect(self) -> Exchange:
        maximum = ssl.TLSVersion.TLSv1_2 if self._httpg else ssl.TLSVersion.TLSv1_3
        context = self._credential.client_context(maximum=maximum)
        try:
            tls = self._secured(context)
        except OSError as error:
            raise self._not_connected(error) from error
        connection = Exchange(Stream(tls, self._clock), tls, self._timeout_s, self._max_answer_bytes)
        if self._httpg:
            connection.send_flag(NO_DELEGATION)
        return connection

    def _secured(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        sock = self._tcp(self._address, self._timeout_s)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return context.wrap_socket(sock, server_hostname=self._address[0])
        except BaseException:
            sock.close()
            raise

    def _not_connected(self, error: OSError) -> MdmError:
        if isinstance(error, ssl.SSLCertVerificationError):
            reason = f"{self._name} is not who it should be: {error.verify_message}"
            return self._unavailable(reason, advice=TRUST_ADVICE)
        if isinstance(error, ssl.SSLError):
            return refusal(self._name, error) or self._unavailable(f"{self._name} does not speak TLS")
        if isinstance(error, TimeoutError):
            return self._unavailable(f"{self._name} did not answer within {self._timeout_s:g} s")
        return self._unavailable(f"{self._name} cannot be reached: {error.strerror or type(error).__name__}")

    def _gone(self, error: PeerGone) -> MdmError:
        if isinstance(error.__cause__, ssl.SSLError):
            refused = refusal(self._name, error.__cause__)
            if refused is not None:
                return refused
        return self._unavailable(
            f"{self._name} closed the connection without an answer",
            advice="If this is always so, the server's log tells why it refuses the credential.",
        )


class Started:
    """A request that was sent, and whose answer has not been read; see `HttpClient.start`."""

    def __init__(self, client: HttpClient, connection: Exchange) -> None:
        self._client = client
        self._connection = connection
        self._answer = connection.answer()

    def fileno(self) -> int:
        """Return the descriptor on which the answer arrives."""
        return self._connection.fileno()

    def take(self) -> Response | None:
        """Take what has arrived, without waiting; None as long as the answer is not whole.

        Raises:
            PeerGone: the connection ended before any of it: whoever may, sends the request again.
            MdmError: as `HttpClient.request`.
        """
        with Guarded(self._client._failed):  # noqa: SLF001 - the other half of the same module
            answer = self._connection.receive_now(self._answer)
        if answer is not None and not self._connection.reusable:
            self._client.close()
        return answer

    def wait(self, seconds: float) -> Response:
        """Wait for the answer.

        Raises:
            PeerGone, MdmError: as `take`; there is no answer within that time.
        """
        until_s = self._client._clock.monotonic_s() + seconds  # noqa: SLF001
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN)
        while (answer := self.take()) is None:
            left_s = until_s - self._client._clock.monotonic_s()  # noqa: SLF001
            with Guarded(self._client._failed):  # noqa: SLF001
                if left_s <= 0 or not poll.poll(left_s * 1000):
                    raise Stalled
        return answer


class Upload:
    """A request under way, of which the body is still being written; see `HttpClient.upload`."""

    def __init__(self, client: HttpClient, connection: Exchange, request: h11.Request) -> None:
        self._client = client
        self._connection = connection
        self._answer: Response | None = None
        with self._guarded():
            connection.send_piece(request)

    def invited(self, wait_s: float) -> bool:
        """Wait for the answer to an ``Expect: 100-continue`` among the headers.

        Returns:
            False when the server has answered without wanting the body.

        Raises:
            MdmError: as `HttpClient.request`.
        """
        with self._guarded():
            if self._connection.invited(wait_s):
                return True
            self._answer = self._connection.receive(None)
        self._client.close()
        return False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send a piece of the body; does nothing when the server has answered already.

        Raises:
            MdmError: as `HttpClient.request`.
        """
        if self._answer is not None or not data:
            return
        with self._guarded():
            with suppress(PeerGone):  # then why has been said before
                if not self._connection.dead():
                    self._connection.send_piece(h11.Data(bytes(data)))
                    return
            self._answer = self._connection.receive(None)
        self._client.close()

    def finish(self) -> Response:
        """End the body and return the answer.

        Raises:
            MdmError: as `HttpClient.request`.
        """
        if self._answer is not None:
            return self._answer
        with self._guarded():
            with suppress(PeerGone):
                self._connection.send_piece(h11.EndOfMessage())
            self._answer = self._connection.receive(None)
        if not self._connection.reusable:
            self._client.close()
        return self._answer

    def abort(self) -> None:
        """Break off in the middle: the server sees that the body has no end."""
        if self._answer is None:
            self._client.close()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            with Guarded(self._client._failed):  # noqa: SLF001 - the other half of the same module
                yield
        except PeerGone as error:
            raise self._client._gone(error) from error  # noqa: SLF001


def _endpoint(url: str) -> tuple[bool, tuple[str, int]]:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidRequest("not the URL of a server") from error
    if parts.scheme not in _PORTS or not parts.hostname:
        raise InvalidRequest("a URL https://host:port or httpg://host:port was expected")
    return parts.scheme == "httpg", (parts.hostname, port or _PORTS[parts.scheme])
