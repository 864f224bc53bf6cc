"""Base URLs of links: from the setting, a trusted proxy's headers, or the request itself."""

import httpx
import pytest
from receiver import receiving
from serving import KEY, ServerProcess

from upres.engine.core.errors import SettingsError
from upres.service.server.forwarded import parse_networks

FORWARDED = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "video.example", "X-Forwarded-For": "203.0.113.9"}
HOOKS = {"webhook_http": True, "webhook_hosts": ["127.0.0.1"], "host": "0.0.0.0", "allow_unconfined": True}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"trusted_proxies": ["127.0.0.0/8"]}, "https://video.example/"),
        ({"trusted_proxies": ["10.0.0.0/8"]}, "http://127.0.0.1:"),
        ({"public_url": "https://upres.example"}, "https://upres.example/"),
    ],
    ids=["a trusted proxy", "anybody", "a setting"],
)
def test_links_in_webhooks_and_answers_lead_where_the_request_came_from(clip, tmp_path, settings, expected):
    with receiving() as receiver, ServerProcess(tmp_path / "state", **HOOKS, **settings) as server:
        headers = {"Authorization": f"Bearer {KEY}", **FORWARDED}
        data = {"model": "RealESRGAN_Vid_x2", "preset": "ultrafast", "webhook_url": receiver.url("127.0.0.1")}
        files = {"video": clip("a.mp4", 1).read_bytes()}
        answer = httpx.post(
            f"{server.base}/api/v2/videos/upscales", headers=headers, files=files, data=data, timeout=60
        )
        assert answer.status_code == 200, answer.text
        assert receiver.bodies(2)[1]["data"]["result_url"].startswith(expected)
        request_id = answer.json()["data"]["request_id"]
        job = httpx.get(f"{server.base}/api/v2/jobs/{request_id}", headers=headers, timeout=60).json()["data"]
        assert job["result_url"].startswith(expected)


def test_a_proxy_that_is_no_network_is_named():
    with pytest.raises(SettingsError, match=r"'proxy\.example' is not an address or network"):
        parse_networks(["proxy.example"])
