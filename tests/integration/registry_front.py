"""A front before a registry, as an operator's: TLS, a user with a password, one who may do nothing, and bad answers."""

import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from tests.certificates import Certificate

USER, PASSWORD, POWERLESS = "leadstream", "planted:é", "powerless"
_ALLOWED, _POWERLESS = (f"Basic {b64encode(f'{user}:{PASSWORD}'.encode()).decode()}" for user in (USER, POWERLESS))
_PAGES = {"/html": b"<html>planted</html>", "/endless": b" " * 5 * 1024 * 1024}


class _Front(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"
    registry: str
    over: threading.Event

    def log_message(self, *_: object) -> None:
        """Tests are quiet."""

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        given, place = self.headers.get("Authorization", ""), f"/{self.path.split('/')[1]}"
        if given != _ALLOWED:
            self.send_error(403 if given == _POWERLESS else 401)
        elif place in _PAGES:
            self._send(200, _PAGES[place])
        elif place == "/silent":
            self.over.wait()
        else:
            self._forward(body)

    def _forward(self, body: bytes) -> None:
        headers = {"Content-Type": self.headers.get("Content-Type", "")}
        address = f"{self.registry}{self.path}"
        answer = httpx.request(self.command, address, content=body, headers=headers, trust_env=False, timeout=60)
        self._send(answer.status_code, answer.content)

    def _send(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = _answer


@contextmanager
def front(registry: str, certificate: Certificate) -> Iterator[str]:
    """The https URL on localhost of the registry for USER with PASSWORD; POWERLESS with it is forbidden everything.

    Under `/html` it answers a page, under `/endless` more than anybody reads, under `/silent` nothing.
    """
    over = threading.Event()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Front", (_Front,), {"registry": registry, "over": over}))
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield f"https://localhost:{server.server_address[1]}"
    finally:
        over.set()
        server.shutdown()
        serving.join()
        server.server_close()
