"""Servers whose every answer is an error with words that a terminal would obey."""

import json
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.hostile import TEXT

_SSL_REQUEST, _GSS_REQUEST = 80877103, 80877104
_GRAPH = {"error": {"message": TEXT, "type": TEXT, "code": 100, "error_user_msg": TEXT, "fbtrace_id": TEXT}}
_REGISTRY = {"error_code": 42201, "message": TEXT}
_READINESS = {"ready": False, "parts": {TEXT: {"ready": False, "seen": TEXT}}}


class _Http(BaseHTTPRequestHandler):
    """The Graph API, a schema registry and a stage's admin port at once."""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        kind = self.path.split("/")[1].partition("?")[0]
        status, answer = {"readyz": (503, _READINESS), "subjects": (409, _REGISTRY)}.get(kind, (400, _GRAPH))
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_DELETE = do_PUT = _answer

    def log_message(self, format: str, *args: object) -> None:
        pass


class _Postgres(socketserver.StreamRequestHandler):
    """Refuses each login."""

    def handle(self) -> None:
        while True:
            length, code = struct.unpack("!ii", self.rfile.read(8))
            self.rfile.read(length - 8)
            if code not in (_SSL_REQUEST, _GSS_REQUEST):
                break
            self.wfile.write(b"N")
        fields = {"S": "FATAL", "V": "FATAL", "C": "28000", "M": TEXT, "D": TEXT, "H": TEXT}
        error = b"".join(name.encode() + text.encode() + b"\0" for name, text in fields.items()) + b"\0"
        self.wfile.write(b"E" + struct.pack("!i", len(error) + 4) + error)


@contextmanager
def hostile_http() -> Iterator[str]:
    """The address of a server that is hostile as Graph API, as registry and as a stage."""
    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), _Http)) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def hostile_postgres() -> Iterator[str]:
    """The URL of a hostile database."""
    with _serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Postgres)) as port:
        yield f"postgresql://user:word@127.0.0.1:{port}/leads"


@contextmanager
def _serving(server: socketserver.TCPServer) -> Iterator[int]:
    with server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()
