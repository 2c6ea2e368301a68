"""Real ends for the publishing tests, on loopback: sshd, an S3-compatible server, a web server, a proxy that cuts, apt clients."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import pwd
import shlex
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from gpgsigner import GpgSigner
from repositories import SmallRepository

from openssi import run
from openssi_build import repository, settings
from openssi_build.chroot import Chroot
from openssi_build.publish import open_target
from openssi_build.publish.targets import Target
from openssi_build.repository import release


class SignedRepository(SmallRepository):
    """A repository that grows, signed by a key of its own at the present time."""

    def __init__(self, base: Path, signer: release.Signer | None = None) -> None:
        super().__init__(base, signer or GpgSigner(base / "gpg"))
        self.settings = settings.Repository()
        self.date = int(time.time())
        self.keyring = base / "keyring.gpg"
        self.keyring.write_bytes(self.signer.public_keys())

    def add(self, name: str, version: str, body: bytes = b"x") -> None:
        """Publish one more package here."""
        new = [self.deb(name, version, body=body)]
        repository.publish(self.repo, new, settings=self.settings, cache=self.base / "cache", signer=self.signer)

    def add_images(self, version: str) -> None:
        """Publish boot images of ``version`` here."""
        repository.publish(
            self.repo, [], boot_images=[self.images(version)],
            settings=self.settings, cache=self.base / "cache", signer=self.signer,
        )  # fmt: skip


@dataclass
class End:
    """A target, and how clients reach it."""

    chosen: settings.Publish
    uri: str

    def open(self) -> Target:
        """Return the target, not yet connected."""
        return open_target(self.chosen, Path("/nonexistent"))


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class _Quiet(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def web_server(directory: Path) -> Iterator[str]:
    """Serve ``directory``; yield its URI."""
    directory.mkdir(parents=True, exist_ok=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(directory)))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def ssh_server(directory: Path) -> Iterator[settings.Publish]:
    """Run a real sshd with keys of its own; yield a target at ``directory``/site on it."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in ("host", "user"):
        run.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name])
    (directory / "authorized").write_bytes((directory / "user.pub").read_bytes())
    port = free_port()
    config = (
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {directory}/host\nAuthorizedKeysFile {directory}/authorized\n"
        "StrictModes no\nUsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\n"
    )
    (directory / "config").write_text(config)
    host_key = (directory / "host.pub").read_text().split()
    (directory / "known").write_text(f"[127.0.0.1]:{port} {host_key[0]} {host_key[1]}\n")
    argv = ["/usr/sbin/sshd", "-D", "-e", "-f", str(directory / "config")]
    if os.geteuid() == 0:
        # Root's sshd wants a directory below /run; it gets one that nobody else sees.
        script = f"mount -t tmpfs none /run && mkdir -m 0755 /run/sshd && exec {shlex.join(argv)}"
        argv = ["unshare", "--mount", "sh", "-c", script]
    process = run.start(argv, log_to=directory / "log")
    try:
        wait_for_port(port, directory / "log")
        user = pwd.getpwuid(os.geteuid()).pw_name
        to = f"ssh://{user}@127.0.0.1:{port}{directory}/site"
        yield settings.Publish("ssh", to, identity=directory / "user", known_hosts=directory / "known", wait_s=60)
    finally:
        run.stop(process)


def wait_for_port(port: int, log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5):
            return
        time.sleep(0.05)
    raise AssertionError(f"nobody listens: {log.read_text()}")


@contextlib.contextmanager
def object_server() -> Iterator[settings.Publish]:
    """Run an S3-compatible server; yield a target in a bucket of it. It takes any credentials."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        bucket = f"bucket-{port}-{time.monotonic_ns()}"  # servers of one process share what they hold
        client.create_bucket(Bucket=bucket)
        allowed = {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:GetObject",
            "Resource": f"arn:aws:s3:::{bucket}/*",
        }
        client.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Version": "2012-10-17", "Statement": [allowed]}))
        client.close()
        yield settings.Publish("s3", f"s3://{bucket}/deep/site", endpoint=endpoint, region="us-east-1", wait_s=60)
    finally:
        server.stop()


class Proxy:
    """Passes TCP connections on to ``port`` until it has passed ``budget`` bytes towards it; then it cuts them all."""

    def __init__(self, port: int, budget: int) -> None:
        self._to = port
        self.budget = budget
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        self._cut()

    def _accept(self) -> None:
        while True:
            try:
                inner = self._listener.accept()[0]
            except OSError:
                return
            if self.budget <= 0:
                inner.close()
                continue
            outer = socket.create_connection(("127.0.0.1", self._to))
            self._sockets += [inner, outer]
            threading.Thread(target=self._pass, args=(inner, outer, True), daemon=True).start()
            threading.Thread(target=self._pass, args=(outer, inner, False), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while block := source.recv(16384):
                if counted:
                    self.budget -= len(block)
                    if self.budget <= 0:
                        self._cut()
                        return
                sink.sendall(block)
            sink.shutdown(socket.SHUT_WR)

    def _cut(self) -> None:
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


_LOOP = """
cd /tmp
while ! test -e /stop; do
    apt-get -qq update -o APT::Update::Error-Mode=any 2>&1 || echo "status $?"
    apt-get -qq download probe 2>&1 || echo "status $?"
    dpkg-deb -f "$(ls -t probe_*.deb | head -n 1)" Version >/seen.new && mv /seen.new /seen
    rm -f probe_*.deb
    echo >>/count
done
"""


class Client:
    """An apt in a chroot that updates and downloads in a loop until its block ends."""

    def __init__(self, chroot: Chroot, uri: str, keyring: Path, suites: str = "trixie") -> None:
        self.chroot = chroot
        components = "" if suites == "./" else "Components: main\n"
        chroot.copy_in(keyring, "/usr/share/keyrings/site.gpg")
        chroot.path.joinpath("usr/share/keyrings/site.gpg").chmod(0o644)
        for each in (*chroot.path.glob("etc/apt/sources.list.d/*"), chroot.path / "etc/apt/sources.list"):
            each.unlink(missing_ok=True)
        (chroot.path / "etc/apt/sources.list.d/site.sources").write_text(
            f"Types: deb\nURIs: {uri}\nSuites: {suites}\n{components}Signed-By: /usr/share/keyrings/site.gpg\n"
        )
        options = 'Acquire::http::Proxy::127.0.0.1 "DIRECT";\nAcquire::Retries "0";\nAPT::Sandbox::User "root";\n'
        (chroot.path / "etc/apt/apt.conf.d/99site").write_text(options)
        self._thread = threading.Thread(target=self._run)
        self.said = b""

    def _run(self) -> None:
        self.said = self.chroot.output(["sh", "-c", _LOOP], network=True, timeout=600)

    def __enter__(self) -> Client:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        (self.chroot.path / "stop").touch()
        self._thread.join()

    @property
    def rounds(self) -> int:
        """How often it has gone round."""
        with contextlib.suppress(FileNotFoundError):
            return len((self.chroot.path / "count").read_bytes())
        return 0

    def seen(self) -> str:
        """The version it has downloaded last."""
        return (self.chroot.path / "seen").read_text().strip()

    def go_round(self, times: int) -> None:
        """Wait until it has gone round so often from now."""
        goal, deadline = self.rounds + times, time.monotonic() + 300
        while self.rounds < goal:
            assert self._thread.is_alive(), self.said
            assert time.monotonic() < deadline, "the client stands still"
            time.sleep(0.05)
