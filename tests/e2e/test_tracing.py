"""Traces of the real processes: from the POST of a webhook to the call of the Send API, joined by links."""

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from messenger.events import AppId, PageId, Psid
from operations.deployment import expected_topics
from operations.local.processes import Processes
from operations.local.stack import STAGES, admin_url
from runtime.cluster import Cluster
from runtime.ports import free_ports
from runtime.settings import Settings, variable
from runtime.topic_admin import apply_topics
from runtime.tracing import ENDPOINT
from simulator.poster import GraphControl, Poster
from simulator.server import serve_graph
from simulator.threads import ThreadNews
from simulator.world import GraphConfig
from tests.builders import PAGE, SUMMARY_TEXT, TARGET_APP
from tests.e2e.pipeline import SECRET
from tests.e2e.test_pipeline import signals_of

pytestmark = pytest.mark.integration

_PSID = Psid("7100000000000099")
_RULES = "rules: [{name: thanks, wait_for: answers, send: {text: Thanks!}}]"
_PAGES = f'pages: {{"{PAGE}": {{access_token: a-token, target_app: "{TARGET_APP}"}}}}'


@dataclass
class Collector:
    """An OTLP/HTTP receiver on loopback, with the spans that it got and the service of each."""

    url: str
    spans: list[tuple[str, Span]] = field(default_factory=list)

    def named(self, name: str) -> list[Span]:
        return [span for _, span in list(self.spans) if span.name == name]


@contextmanager
def collecting() -> Iterator[Collector]:
    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["Content-Length"])))
            for resource in request.resource_spans:
                service = next(it.value.string_value for it in resource.resource.attributes if it.key == "service.name")
                collector.spans.extend((service, span) for scope in resource.scope_spans for span in scope.spans)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    collector = Collector(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_links_lead_from_the_send_back_to_the_post(kafka_broker: str, tmp_path: Path) -> None:
    (tmp_path / "pages.yaml").write_text(_PAGES)
    (tmp_path / "followups.yaml").write_text(_RULES)
    settings = Settings(
        broker=kafka_broker,
        topic_prefix=f"traces-{os.getpid()}-",
        partitions=2,
        state_dir=tmp_path,
        pages=tmp_path / "pages.yaml",
        followups=tmp_path / "followups.yaml",
        port=free_ports(),
        admin_port=free_ports(1 + len(STAGES)),
        graph_url=f"http://127.0.0.1:{free_ports()}",
    )
    asyncio.run(apply_topics(Cluster(kafka_broker), expected_topics(settings)))
    with collecting() as collector:
        with Processes(tmp_path / "logs", _environ(settings, collector.url), print) as processes:
            for stage in (("ingest",), ("streams",), ("sink", "send")):
                processes.start("-".join(stage), *stage, ready_url=admin_url(settings, stage[-1], "/readyz"))
            processes.await_ready()
            asyncio.run(_follow_up_one_lead(settings))
        # The stages have ended, and have sent what was left.
        spans = [span for _, span in collector.spans]

    [send] = collector.named("graph messages")
    chain = [_name_of(send)]
    causes = _causes(send, spans)
    while causes:
        chain += sorted({span.name for span in causes})
        causes = [cause for span in causes for cause in _causes(span, spans)]
    assert list(dict.fromkeys(chain)) == ["graph messages", "sink send", "join", "split", "webhook"]
    assert {service for service, _ in collector.spans} == {
        "leadstream-ingest",
        "leadstream-streams",
        "leadstream-sink-send",
    }
    everything = b"".join(span.SerializeToString() for span in spans)
    for personal in (_PSID, "Thanks!", SUMMARY_TEXT, "a-token", SECRET):
        assert personal.encode() not in everything


def _name_of(span: Span) -> str:
    return str(span.name)


def _causes(span: Span, spans: list[Span]) -> list[Span]:
    linked = {(link.trace_id, link.span_id) for link in span.links}
    return [cause for cause in spans if (cause.trace_id, cause.span_id) in linked]


async def _follow_up_one_lead(settings: Settings) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    config = GraphConfig(app_id=AppId(TARGET_APP))
    port = int(settings.graph_url.rpartition(":")[2])
    async with (
        serve_graph(config, seed=1, clock=lambda: datetime.now(UTC), port=port),
        httpx.AsyncClient(trust_env=False) as http,
    ):
        news = ThreadNews(page_id=PageId(PAGE), psid=_PSID, owner=AppId(TARGET_APP), last_user_message_at=now)
        await GraphControl(http, settings.graph_url).report([news])
        poster = Poster(http, f"http://127.0.0.1:{settings.port}/webhooks/messenger", SECRET)
        for body in signals_of(_PSID, now).values():
            assert (await poster.post(body)).status == 200
        async with asyncio.timeout(60):
            while not (await http.get(f"{settings.graph_url}/_simulator/sends")).json()["effects"]:  # noqa: ASYNC110
                await asyncio.sleep(0.1)


def _environ(settings: Settings, collector: str) -> dict[str, str]:
    told = (
        "broker",
        "topic_prefix",
        "partitions",
        "state_dir",
        "pages",
        "followups",
        "port",
        "admin_port",
        "graph_url",
    )
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("LEADSTREAM_", "OTEL_"))},
        **{variable(name): str(getattr(settings, name)) for name in told},
        variable("app_id"): TARGET_APP,
        variable("app_secrets"): SECRET,
        variable("verify_token"): "test-verify-token",
        ENDPOINT: collector,
    }
