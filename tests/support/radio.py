"""A real Icecast with real sources, and a web server that answers what a test says."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import socketserver
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.support.waiting import eventually

_OGG = ["-f", "ogg", "-page_duration", "200000", "-content_type"]
_MP3 = ["-f", "mp3", "-id3v2_version", "0", "-write_xing", "0", "-content_type"]
CODECS = {
    "mp3": ["-c:a", "libmp3lame", "-b:a", "64k", *_MP3, "audio/mpeg"],
    "aac": ["-c:a", "aac", "-b:a", "64k", "-f", "adts", "-content_type", "audio/aac"],
    "opus": ["-c:a", "libopus", "-f", "ogg", "-page_duration", "200000", "-content_type", "audio/ogg"],
    "vorbis": [
        "-c:a",
        "libvorbis",
        "-f",
        "ogg",
        "-page_duration",
        "200000",
        "-content_type",
        "application/ogg",
    ],
    "flac": ["-c:a", "flac", "-f", "ogg", "-page_duration", "200000", "-content_type", "application/ogg"],
}

CONFIGURATION = """\
<icecast>
  <limits><clients>50</clients><sources>10</sources><burst-size>16384</burst-size></limits>
  <authentication>
    <source-password>hackme</source-password>
    <admin-user>admin</admin-user><admin-password>hackme</admin-password>
  </authentication>
  <hostname>localhost</hostname>
  <listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>
  <paths>
    <basedir>/usr/share/icecast2</basedir><logdir>{folder}</logdir>
    <webroot>/usr/share/icecast2/web</webroot><adminroot>/usr/share/icecast2/admin</adminroot>
  </paths>
  <logging><accesslog>access.log</accesslog><errorlog>error.log</errorlog><loglevel>3</loglevel></logging>
  <security><chroot>0</chroot>{owner}</security>
</icecast>
"""


class Icecast:
    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, mount: str) -> str:
        return f"http://127.0.0.1:{self.port}/{mount}"

    def start(self) -> None:
        nobody = "<changeowner><user>nobody</user><group>nogroup</group></changeowner>"
        owner = nobody if os.geteuid() == 0 else ""  # it refuses to be root
        text = CONFIGURATION.format(port=self.port, folder=self.folder, owner=owner)
        (self.folder / "icecast.xml").write_text(text)
        with (self.folder / "said").open("ab") as said:
            self._process = subprocess.Popen(
                ["icecast2", "-c", str(self.folder / "icecast.xml")], stdout=said, stderr=said
            )
        eventually(self._answers, what=f"Icecast listens: {(self.folder / 'said').read_text()}")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    @contextlib.contextmanager
    def source(self, mount: str, codec: str, title: str = "") -> Iterator[subprocess.Popen[bytes]]:
        """A tone of its own pitch, in real time."""
        command = ["ffmpeg", "-v", "error", "-nostdin", "-re", "-f", "lavfi", "-i", "sine=frequency=440"]
        command += ["-metadata", f"title={title}"] if title else []
        command += ["-ac", "2", *CODECS[codec], f"icecast://source:hackme@127.0.0.1:{self.port}/{mount}"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            eventually(lambda: f"{mount}" in self._mounts() or process.poll(), what=f"{mount} is there")
            yield process
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()

    def _mounts(self) -> str:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 5) as link:
            link.sendall(b"GET /status-json.xsl HTTP/1.0\r\n\r\n")
            return b"".join(iter(lambda: link.recv(65_536), b"")).decode(errors="replace")
        return ""


@contextlib.contextmanager
def icecast() -> Iterator[Icecast]:
    with tempfile.TemporaryDirectory(prefix="pinna-icecast-") as name:
        folder = Path(name)
        folder.chmod(0o777)
        server = Icecast(folder, free_port())
        try:
            server.start()
            yield server
        finally:
            server.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


Answer = Callable[[str, bytes, socket.socket], None]
"""(path, the whole head of the request, the connection)"""


@contextlib.contextmanager
def server(answer: Answer, tls: ssl.SSLContext | None = None) -> Iterator[str]:
    """Every request is answered by `answer`; the address without a slash at its end."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            head = b""
            while b"\r\n\r\n" not in head:
                more = self.request.recv(4096)
                if not more:
                    return
                head += more
            with contextlib.suppress(OSError):  # the listener has gone
                answer(head.split()[1].decode(), head, self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

        def get_request(self) -> tuple[socket.socket, Any]:
            link, peer = super().get_request()
            return (tls.wrap_socket(link, server_side=True) if tls else link), peer

    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http{'s' if tls else ''}://127.0.0.1:{running.server_address[1]}"
        finally:
            running.shutdown()
            thread.join()


def encode(path: Path, codec: str, seconds: float) -> bytes:
    """The same tone as a file."""
    options = CODECS[codec][: CODECS[codec].index("-content_type")]
    command = [
        "ffmpeg",
        "-v",
        "error",
        "-nostdin",
        "-f",
        "lavfi",
        "-i",
        f"sine=frequency=440:duration={seconds}",
    ]
    subprocess.run([*command, "-ac", "2", *options, str(path)], check=True)
    return path.read_bytes()
