"""`leadstream simulate`: bad input ends with one clear line, good input with counts."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from messenger.errors import BadSignature
from messenger.signature import verify_signature


def _run(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(main, ["simulate", *arguments], env={"LEADSTREAM_APP_SECRET": "s3cret", **environ})


class _Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            verify_signature(body, self.headers.get_all("X-Hub-Signature-256"), ["s3cret"])
        except BadSignature:
            self.send_response(403)
        else:
            self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Stay silent."""


@contextmanager
def _receiver() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Receiver) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/webhooks/messenger"
        server.shutdown()
        thread.join()


def test_campaign_is_posted_signed_and_counted() -> None:
    with _receiver() as url:
        result = _run("campaign", "--url", url, "--leads", "5", "--seed", "1", "--full-speed")

    assert result.exit_code == 0, result.output
    assert "seed 1: 5 leads in" in result.output
    assert "200: " in result.output


def test_product_page_samples_are_posted() -> None:
    with _receiver() as url:
        result = _run("product-page", "--url", url)

    assert result.exit_code == 0, result.output
    assert "200: 2" in result.output


def test_campaign_that_is_not_taken_ends_non_zero() -> None:
    with _receiver() as url:
        result = _run("product-page", "--url", url, "--retries", "0", LEADSTREAM_APP_SECRET="wrong")

    assert result.exit_code == 1
    assert "403: 2" in result.output
    assert "Error: 2 of 2 webhooks were not accepted" in result.output


def test_graph_that_is_not_there_is_one_clear_line() -> None:
    with _receiver() as url, socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
        unused.close()
        result = _run(
            "campaign", "--url", url, "--leads", "1", "--full-speed", "--graph-url", f"http://127.0.0.1:{port}"
        )

    assert result.exit_code == 1
    assert f"the fake Graph at http://127.0.0.1:{port} does not accept the campaign's conversations" in result.output


def test_port_in_use_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        result = _run("graph", "--port", str(taken.getsockname()[1]), LEADSTREAM_PAGES="none.yaml")

    assert result.exit_code == 1
    assert "cannot listen on port" in result.output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("campaign", "--url", "https://example.test/"), "not this machine"),
        (("campaign", "--graph-url", "https://graph.facebook.com"), "not this machine"),
        (("graph", "--webhook", "https://example.test/"), "not this machine"),
        (("campaign", "--url", "http://ingest:8000/"), "not this machine"),
        (("--peer", "example.test", "campaign"), "must have no dot"),
        (("--peer", "ingest", "campaign", "--url", "http://other:8000/"), "not this machine"),
        (("campaign", "--rate", "5", "--full-speed"), "exclude each other"),
        (("campaign", "--leads", "0"), "--leads"),
    ],
)
def test_bad_options_are_refused(arguments: tuple[str, ...], complaint: str) -> None:
    result = _run(*arguments)

    assert result.exit_code == 2
    assert complaint in result.output


@pytest.mark.parametrize(
    "arguments",
    [("campaign",), ("product-page",), ("graph", "--webhook", "http://localhost:1/"), ("graph", "--require-proof")],
)
def test_missing_secret_is_named(arguments: tuple[str, ...]) -> None:
    result = _run(*arguments, LEADSTREAM_APP_SECRET="", LEADSTREAM_PAGES="none.yaml")

    assert result.exit_code == 1
    assert "LEADSTREAM_APP_SECRET is not set" in result.output
