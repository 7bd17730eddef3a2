"""Proxies of the environment reach everything but this machine."""

import httpx
import pytest

from runtime.loopback import NO_PROXY


@pytest.mark.parametrize(
    ("url", "is_direct"),
    [
        ("http://127.0.0.1:8001/readyz", True),
        ("http://localhost:8001/readyz", True),
        ("https://[::1]:8001/readyz", True),
        ("https://graph.facebook.com/v23.0/me", False),
    ],
)
@pytest.mark.anyio
async def test_a_proxy_is_asked_for_other_machines_only(
    url: str, is_direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for scheme in ("http", "https"):
        monkeypatch.setenv(f"{scheme}_proxy", "http://192.0.2.1:3128")
    async with httpx.AsyncClient(mounts=NO_PROXY) as http:
        assert (http._transport_for_url(httpx.URL(url)) is http._transport) == is_direct
