"""Follows a Dockerfile without a Docker engine: every stage is a folder, every RUN line runs in it by chroot.

Knows just the instructions that ours uses, and fails at any other. Needs root, debootstrap and Linux namespaces.
"""

import json
import os
import shlex
import shutil
import subprocess

CERTIFICATES = "tmp/host-certificates.pem"  # where a proxy in between has certificates of its own
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
CHROOT = """
set -e
mount --bind "$ROOT" "$ROOT"
mount --rbind /dev "$ROOT/dev"
mount -t proc proc "$ROOT/proc"
if [ "$STATE" ]; then mount --bind "$STATE" "$ROOT$VOLUME"; fi
if [ "$READ_ONLY" ]; then mount -o remount,bind,ro "$ROOT"; fi
exec chroot $USERSPEC "$ROOT" env -i "$@"
"""


def instructions(text):
    """(word, the rest) of each instruction, its lines joined."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(word, " ".join(rest.split())) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


class Stage:
    """One stage: its root, and what ENV, USER, WORKDIR, VOLUME, ENTRYPOINT, CMD and HEALTHCHECK have said so far."""

    def __init__(self, root):
        self.root = root
        self.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
        self.user = "root"
        self.folder = self.volume = "/"
        self.entry, self.command, self.health = [], [], []

    def start(self, command, *, user=None, environment=None, state=None, folder=None, **options):
        """Start a command; state: a folder outside to mount as the volume, with everything else read-only."""
        user = user or self.user
        told = {
            "ROOT": str(self.root),
            "STATE": str(state or ""),
            "VOLUME": self.volume,
            "READ_ONLY": "1" if state else "",
            "USERSPEC": "" if user == "root" else f"--userspec={user}",
        }
        assigned = [f"{name}={value}" for name, value in {**self.environment, **(environment or {})}.items()]
        inside = ["sh", "-c", f"cd {shlex.quote(folder or self.folder)} && exec {shlex.join(command)}"]
        outside = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", CHROOT, "sh"]
        return subprocess.Popen(
            [*outside, *assigned, *inside], env={"PATH": os.environ["PATH"], **told}, text=True, **options
        )

    def run(self, command, *, seconds=600, **options):
        """Run a command to its end: (exit code, output)."""
        with self.start(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options) as process:
            try:
                output, _ = process.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return process.returncode, output


class Build:
    """Follows every instruction; `stages` by name or number, the last one is the image. log: called with what happens."""

    def __init__(self, context, folder, log):
        self.context, self.folder, self.log = context, folder, log
        self.stages = {}

    def run(self):
        for word, rest in instructions((self.context / "Dockerfile").read_text()):
            self.log(f"{word} {rest}")
            getattr(self, f"_{word.lower()}")(rest)
        return self.stage

    def _from(self, rest):
        image, _, name = rest.partition(" AS ")
        suite = image.removeprefix("debian:").removesuffix("-slim")
        base = self.folder / suite
        if not base.exists():
            subprocess.run(["debootstrap", "--variant=minbase", suite, base], check=True, timeout=900, stdout=-3)
        number = len({*self.stages.values()})
        root = self.folder / f"stage{number}"
        subprocess.run(["cp", "-a", base, root], check=True, timeout=300)
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        if bundle := os.environ.get("SSL_CERT_FILE"):
            shutil.copy(bundle, root / CERTIFICATES)
        self.stage = self.stages[str(number)] = self.stages[name or str(number)] = Stage(root)

    def _run(self, rest):
        between = {name: os.environ[name] for name in PROXIES if name in os.environ}
        if (self.stage.root / CERTIFICATES).exists():
            between["PIP_CERT"] = f"/{CERTIFICATES}"
        code, output = self.stage.run(["sh", "-c", rest], environment=between, seconds=1800)
        self.log(output[-2000:])
        assert code == 0, f"RUN {rest}\n{output[-4000:]}"

    def _copy(self, rest):
        target = self.stage.root / rest.split()[-1].lstrip("/")
        if rest == ". .":
            target = self.stage.root / self.stage.folder.lstrip("/")
            self._copy_context(target)
        else:
            origin, source, _ = rest.split()
            outside = self.stages[origin.removeprefix("--from=")].root / source.lstrip("/")
            subprocess.run(["cp", "-a", outside, target], check=True, timeout=300)
        subprocess.run(["chown", "-R", "root:root", target], check=True, timeout=60)

    def _copy_context(self, target):
        lines = (self.context / ".dockerignore").read_text().splitlines()
        left_out = shutil.ignore_patterns(*[line.removeprefix("**/") for line in lines if line.startswith("**/")])
        for source in [self.context / line[1:] for line in lines if line.startswith("!")]:
            if source.is_dir():
                shutil.copytree(source, target / source.name, ignore=left_out)
            else:
                shutil.copy(source, target)

    def _workdir(self, rest):
        self.stage.folder = rest
        (self.stage.root / rest.lstrip("/")).mkdir(parents=True, exist_ok=True)

    def _env(self, rest):
        self.stage.environment |= dict(word.split("=", 1) for word in shlex.split(rest))

    def _user(self, rest):
        self.stage.user = rest

    def _volume(self, rest):
        self.stage.volume = rest

    def _expose(self, rest):
        assert all(port.isdigit() for port in rest.split())

    def _healthcheck(self, rest):
        self.stage.health = json.loads(rest.partition(" CMD ")[2])

    def _entrypoint(self, rest):
        self.stage.entry = json.loads(rest)

    def _cmd(self, rest):
        self.stage.command = json.loads(rest)
