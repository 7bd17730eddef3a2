"""What ingest is measured against: routes that only answer, and aiokafka by itself.

Run as `python -m tests.benchmarks.yardsticks read|hmac PORT` or `… produce BROKER TOPIC COUNT`.
"""

import asyncio
import sys
from time import process_time

import uvicorn
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from messenger.signature import verify_signature
from runtime import kafka
from runtime.cluster import Cluster
from tests.benchmarks.http_load import ANSWER

SECRET = "a benchmark secret"
_AT_ONCE = 256


async def _read(request: Request) -> PlainTextResponse:
    await request.body()
    return PlainTextResponse(ANSWER)


async def _hmac(request: Request) -> PlainTextResponse:
    body = await request.body()
    verify_signature(body, request.headers.getlist("x-hub-signature-256"), (SECRET,))
    return PlainTextResponse(ANSWER)


async def produce(broker: str, topic: str, count: int) -> float:
    """Records, acknowledged as ingest has them acknowledged, per second of CPU time; many are under way at once."""
    body, key = bytes(800), b"542998526103632:5000000000000001"
    headers = [("received-at", b"1770000000000"), ("x-hub-signature-256", bytes(71)), ("delivery-id", bytes(32))]
    async with kafka.producer(Cluster(broker), client_id="yardstick") as producer:
        await producer.send_and_wait(topic, body, key=key, headers=headers)
        began = process_time()
        for _ in range(0, count, _AT_ONCE):
            sent = [await producer.send(topic, body, key=key, headers=headers) for _ in range(_AT_ONCE)]
            await asyncio.gather(*sent)
        return count / (process_time() - began)


def main() -> None:
    match sys.argv[1:]:
        case ["produce", broker, topic, count]:
            sys.stdout.write(f"{uvloop.run(produce(broker, topic, int(count)))}\n")
        case [name, port]:
            route = Route("/webhooks/messenger", {"read": _read, "hmac": _hmac}[name], methods=["POST"])
            uvicorn.run(
                Starlette(routes=[route]), port=int(port), loop="uvloop", http="httptools", log_level="error",
                access_log=False, backlog=2048,
            )  # fmt: skip


if __name__ == "__main__":
    main()
