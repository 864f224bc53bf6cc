"""A server with TLS on both ports, with a certificate of the test's own authority, and what its clients need."""

import ssl

import grpc
import httpx
import pytest
import referee
import trustme
from receiver import receiving
from serving import KEY, ServerProcess, upres

from upres.service.client import Client
from upres.service.client.errors import RemoteError
from upres.service.server.health import check
from upres.v2 import upscale_pb2 as pb


class Files:
    """The authority's certificate, and the server's with its key. settings: name them as an operator would."""

    def __init__(self, folder):
        authority = trustme.CA()
        issued = authority.issue_cert("localhost", "127.0.0.1")
        self.root, certificate, key = folder / "root.pem", folder / "server.pem", folder / "server.key"
        authority.cert_pem.write_to_path(self.root)
        issued.private_key_pem.write_to_path(key)
        for part in issued.cert_chain_pems:
            part.write_to_path(certificate, append=True)
        self.settings = {"tls_certificate": str(certificate), "tls_key": str(key)}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return Files(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server(files, tmp_path_factory):
    settings = {"webhook_http": True, "webhook_hosts": ["127.0.0.1"]}
    with ServerProcess(tmp_path_factory.mktemp("server") / "state", **files.settings, **settings) as process:
        yield process


@pytest.fixture
def web(server, files):
    context = ssl.create_default_context(cafile=files.root)
    base = server.base.replace("http:", "https:")
    with httpx.Client(base_url=base, verify=context, headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as client:
        yield client


def test_the_client_and_the_commands_speak_it_where_they_trust_the_certificate(server, files, clip, tmp_path):
    config = pb.UpscaleConfig(model="RealESRGAN_Vid_x2", preset="ultrafast")
    with Client(server.target, KEY, credentials=grpc.ssl_channel_credentials(files.root.read_bytes())) as client:
        job = client.submit(clip("a.mp4", 1), config)
    env = {"UPRES_SERVER": server.target, "UPRES_KEY": KEY}
    downloaded = upres("get", job.request_id, tmp_path / "out.mp4", "--ca", files.root, **env)
    assert downloaded.returncode == 0, downloaded.stderr
    assert referee.size(tmp_path / "out.mp4") == (128, 96)


@pytest.mark.parametrize(
    ("credentials", "problem"),
    [(None, "cannot be reached"), (grpc.ssl_channel_credentials(), "has a certificate that is not trusted")],
    ids=["in the clear", "other roots"],
)
def test_a_client_without_its_root_is_not_served(server, credentials, problem):
    client = Client(server.target, KEY, credentials=credentials, patience=0)
    with client, pytest.raises(RemoteError, match=problem):
        client.models()


def test_http_speaks_it_and_its_links_too(server, web, clip):
    with receiving() as receiver:
        fields = {"model": "RealESRGAN_Vid_x2", "preset": "ultrafast", "webhook_url": receiver.url("127.0.0.1")}
        video = {"video": ("a.mp4", clip("a.mp4", 1).read_bytes(), "video/mp4")}
        request_id = web.post("/api/v2/videos/upscales", files=video, data=fields).json()["data"]["request_id"]
        bodies = {body["event"]: body["data"] for body in receiver.bodies(2)}
    data = web.get(f"/api/v2/jobs/{request_id}").json()["data"]
    for url in (data["result_url"], bodies["job.completed"]["result_url"]):
        assert url.startswith("https://") and web.get(url).headers["content-type"] == "video/mp4"
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(data["result_url"])
    with pytest.raises(httpx.HTTPError):
        httpx.get(f"{server.base}/healthz")


def test_the_health_check_knows_of_it(server, files):
    environment = {"UPRES_HTTP_PORT": str(server.settings["http_port"])}
    assert check({**environment, "UPRES_TLS_CERTIFICATE": files.settings["tls_certificate"]}) is None
    assert check(environment) is not None


@pytest.mark.parametrize("missing", ["tls_certificate", "tls_key"])
def test_a_certificate_without_its_key_is_told_at_the_start(files, tmp_path, missing):
    set_ = {f"UPRES_{name.upper()}": value for name, value in files.settings.items() if name != missing}
    refused = upres("serve", UPRES_STATE=str(tmp_path / "state"), UPRES_HTTP_PORT="0", UPRES_GRPC_PORT="0", **set_)
    assert refused.returncode == 2 and "must be set together" in refused.stderr
