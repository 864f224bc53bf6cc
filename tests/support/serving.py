"""Start, kill and stop real server processes."""

import json
import os
import re
import signal
import socket
import subprocess
from contextlib import nullcontext
from pathlib import Path

import databases
import grpc
import prepared
from grpc_health.v1 import health_pb2, health_pb2_grpc
from paths import SUPPORT

from upres.v2 import upscale_pb2 as pb
from upres.v2 import upscale_pb2_grpc as stubs

OWN_CONNECTION = (("grpc.use_local_subchannel_pool", 1),)
CHUNK = 1 << 20
KEY = "upres_test_key_that_is_long_enough"
ALONE = {
    "constants": {"upres.service.server.standby.SHARING": ()}
}  # settings for a server that does not share its database


def upres(*words, stdin=None, **env):
    """Run a command of `upres` to its end. stdin: a file, passed through a pipe."""
    pipe = subprocess.Popen(["cat", stdin], stdout=subprocess.PIPE) if stdin else None
    with pipe or nullcontext():
        return prepared.upres(*words, stdin=pipe and pipe.stdout, text=True, environment=env)


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class ServerProcess:
    """A server with its own state folder and fixed ports, so that clients find it again after a restart."""

    def __init__(self, state, name=None, **settings):
        """name: of its log file, if it shares its state folder with other servers."""
        self.settings = {
            "state": str(state),
            "api_key": KEY,
            "models": "fake:load",
            "grpc_port": free_port(),
            "http_port": free_port(),
            **({"database": databases.url(state)} if databases.SERVER in os.environ else {}),
            **settings,
        }
        self.process = self.stdout = None
        name = Path(name or state).name
        self.log = Path(state).with_name(f"{name}.log")
        self.changed = False  # whether it was started with settings other than its own
        self._fault = Path(state).with_name(f"{name}.fault")

    @property
    def runs(self):
        return self.process is not None and self.process.poll() is None

    def dies_at(self, fault):
        """Make the server die when it reaches a step for the nth time from now on: `step:n`."""
        self._fault.write_text(fault)

    def start(self, until=b"gRPC on", **values):
        self.changed = bool(values)
        values = {**self.settings, **values, "fault": str(self._fault)}
        if self.stdout is not None:  # from a start that ended by itself
            self.stdout.close()
        reading, writing = os.pipe()
        self.stdout = os.fdopen(reading, "rb")
        with open(os.devnull, "rb") as nothing, os.fdopen(writing, "wb") as stdout, self.log.open("ab") as log:  # noqa: PTH123
            files = {"stdin": nothing, "stdout": stdout, "stderr": log}
            environment = {"PYTHONPATH": str(SUPPORT)}  # workers import `fake`
            self.process = prepared.Prepared(
                "serve:main", ["serve", json.dumps(values)], **files, environment=environment
            )
        for line in self.stdout:
            if line.startswith(until):
                break
        return self

    def ready(self):
        """Wait until its models are loaded."""
        serving = health_pb2.HealthCheckResponse.SERVING
        with grpc.insecure_channel(self.target) as channel:
            answers = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=200)
            assert any(answer.status == serving for answer in answers)
        return self

    def kill(self):
        self.process.kill()
        self.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self):
        code = self.process.wait(200)
        self.stdout.close()
        self._fault.unlink(missing_ok=True)
        return code

    @property
    def lines(self):
        """Return its log entries as JSON, without gRPC's own, such as those about connections that were idle while it was stopped.

        `upres serve` silences that, which is too late for a process that was prepared: it has imported gRPC.
        """
        logged = self.log.read_text().splitlines()
        return [json.loads(line) for line in logged if not re.match(r"[IWE]\d{4} ", line)]

    @property
    def target(self):
        return f"127.0.0.1:{self.settings['grpc_port']}"

    @property
    def base(self):
        return f"http://127.0.0.1:{self.settings['http_port']}"

    def __enter__(self):
        return self if self.runs else self.start()

    def __exit__(self, *_):
        self.end()

    def end(self):
        """Remove all of its processes and files, whether it runs, has ended or was never started."""
        if self.runs:
            self.process.send_signal(signal.SIGCONT)
            self.kill()
        if self.stdout is not None:
            self.stdout.close()


def both_ready(*servers):
    """Start the servers that do not run, such as those that a test before has killed, wait for all, and empty their logs."""
    for server in servers:
        if not server.runs:
            server.start()
    for server in servers:
        server.ready().log.write_bytes(b"")


class Rpc:
    """Stubs on one channel, with a key."""

    def __init__(self, target, key=KEY):
        self.channel = grpc.insecure_channel(target, options=OWN_CONNECTION)
        self.metadata = (("authorization", f"Bearer {key}"),)
        self.upscale = stubs.UpscaleServiceStub(self.channel)
        self.jobs = stubs.JobServiceStub(self.channel)
        self.models = stubs.ModelServiceStub(self.channel)

    def call(self, method, request, timeout=200):
        return method(request, metadata=self.metadata, timeout=timeout, wait_for_ready=True)

    def create(self, data, config, request_id=""):
        """Upload a complete source; return its job."""

        def requests():
            yield pb.CreateJobRequest(begin=pb.CreateJobRequest.Begin(request_id=request_id, config=config))
            for offset in range(0, len(data), CHUNK):
                yield pb.CreateJobRequest(chunk=pb.SourceChunk(offset=offset, data=data[offset : offset + CHUNK]))
            yield pb.CreateJobRequest(end=True)

        return self.call(self.jobs.CreateJob, requests()).job

    def get(self, request_id):
        return self.call(self.jobs.GetJob, pb.GetJobRequest(request_id=request_id)).job

    def file(self, request_id):
        """Return the joined file of a finished job."""
        request = pb.ReadResultRequest(request_id=request_id, file=pb.ReadResultRequest.File())
        return b"".join(answer.chunk.data for answer in self.call(self.jobs.ReadResult, request))

    def watch(self, request_id, cursor=0):
        """Yield the events of a job until it has ended."""
        return self.call(self.jobs.WatchJob, pb.WatchJobRequest(request_id=request_id, cursor=cursor))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()


def fetched(client, request_id, path):
    """Wait for a job with a client that knows several servers, and return the bytes of its file."""
    *_, job = client.watch(request_id)
    assert job.status == pb.Job.STATUS_DONE, job
    client.download(request_id, path)
    return path.read_bytes()


def streamed_past_a_kill(client, path, config, kill):
    """Stream a clip through a server that is killed at the first fragment. Each fragment must arrive once. Return the job's id."""
    parts, killed = [], False
    with path.open("rb") as source:
        for part in client.stream(source, config):
            parts.append(part)
            if not killed and isinstance(part, pb.Fragment):
                kill(parts[0].request_id)
                killed = True
    assert killed and parts[-1].status == pb.Job.STATUS_DONE
    pieces = [(part.track, part.segment, part.fragment) for part in parts if isinstance(part, pb.Fragment)]
    assert len(pieces) == len(set(pieces))
    return parts[-1].request_id
