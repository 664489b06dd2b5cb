"""An HTTP server that answers as a test says, instead of a NameNode or between it and the store."""

import contextlib
import http.client
import json
import socket
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b""
    location: str = ""
    says_length: int | None = None  # what Content-Length says, where it lies
    early: bool = False  # answer, and close, before the content has come


def refusal(exception: str, message: str = "so it is", status: int = 403) -> Answer:
    remote = {"exception": exception, "javaClassName": f"x.{exception}", "message": message}
    return Answer(status, json.dumps({"RemoteException": remote}).encode())


DROP = Answer(0)  # close the connection without a word
FORWARD = Answer(1)  # let the real one answer
LOSE = Answer(2)  # let the real one do it, and close the connection without a word
HALF = Answer(3)  # let the real one answer; half of what is then sent to its DataNode arrives there
Script = Callable[[str, str], Answer]  # of operation and path, such as ("RENAME", "/webhdfs/v1/f")


@contextlib.contextmanager
def stand_in(
    script: Script,
    real_url: str = "",
    asked: list[str] | None = None,
    half_sent: Callable[[str], None] = lambda path: None,
) -> Iterator[str]:
    """Its url. `script` is called from a thread for each connection, and may wait. What it was
    asked, path and query, is appended to `asked`. `half_sent` is told of an upload, by its path,
    once half of it is at the DataNode, and the connection is cut when it returns."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            if asked is not None:
                asked.append(self.path)
            parts = urllib.parse.urlsplit(self.path)
            operation = urllib.parse.parse_qs(parts.query).get("op", [""])[0]
            answer = script(operation, urllib.parse.unquote(parts.path))
            if answer in (FORWARD, LOSE, HALF):
                forwarded = self._forwarded()
                if answer is HALF:
                    path = urllib.parse.unquote(parts.path)
                    forwarded = _through_half(forwarded, lambda: half_sent(path))
                answer = forwarded if answer is not LOSE else DROP
            if answer is DROP:
                self.close_connection = True
                return
            if not answer.early:
                self._take_content()
            self.send_response(answer.status)
            length = len(answer.body) if answer.says_length is None else answer.says_length
            self.send_header("Content-Length", str(length))
            self.send_header("Content-Type", "application/json")
            if answer.location:
                self.send_header("Location", answer.location)
            self.end_headers()
            self.wfile.write(answer.body)
            self.close_connection = answer.early or answer.says_length is not None

        do_GET = do_PUT = do_POST = do_DELETE = answer

        def _take_content(self) -> None:
            if self.headers.get("Transfer-Encoding") == "chunked":
                while size := int(self.rfile.readline(), 16):
                    self.rfile.read(size + 2)
                self.rfile.readline()

        def _forwarded(self) -> Answer:
            netloc = urllib.parse.urlsplit(real_url).netloc
            with contextlib.closing(http.client.HTTPConnection(netloc, timeout=60)) as connection:
                connection.request(self.command, self.path)
                response = connection.getresponse()
                return Answer(
                    response.status, response.read(), response.getheader("Location") or ""
                )

        def log_message(self, format: str, *arguments: object) -> None:
            """Tests tell what went wrong by themselves."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _through_half(redirect: Answer, half_sent: Callable[[], None]) -> Answer:
    """The same redirect, to a relay for one upload that passes on only half of it."""
    parts = urllib.parse.urlsplit(redirect.location)
    relay = socket.create_server(("127.0.0.1", 0))

    def pass_on_half() -> None:
        with relay, relay.accept()[0] as uploader:
            upload = b""
            # The last chunk of all says that it is the last, so half of a chunk is never the whole.
            while not (body := upload.partition(b"\r\n\r\n")[2]):
                upload += uploader.recv(1 << 16)
            with socket.create_connection((parts.hostname, parts.port)) as real:
                real.sendall(upload[: len(upload) - len(body) // 2])
                half_sent()

    threading.Thread(target=pass_on_half, daemon=True).start()
    netloc = f"127.0.0.1:{relay.getsockname()[1]}"
    return replace(redirect, location=urllib.parse.urlunsplit(parts._replace(netloc=netloc)))
