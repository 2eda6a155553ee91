"""TLS as its tests need it: a certificate that nobody knows yet, and a relay that speaks it."""

from __future__ import annotations

import socket
import socketserver
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def self_signed(folder: Path, address: str) -> Path:
    """A key and its certificate, for a server at an IP address; the latter alone is beside it, in `.crt`."""
    pair, alone = folder / "pair.pem", folder / "pair.pem.crt"
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"]
    make += ["-days", "2", "-subj", "/CN=pinna-test", "-addext", f"subjectAltName=IP:{address}"]
    subprocess.run([*make, "-keyout", pair, "-out", alone], check=True, capture_output=True, timeout=60)
    pair.write_bytes(pair.read_bytes() + alone.read_bytes())
    return pair


def secured(pair: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair)
    return context


@contextmanager
def relay(port: int, pair: Path) -> Iterator[int]:
    """A port of ours that speaks TLS for the server at `port`."""
    context = secured(pair)

    class Relay(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with (
                suppress(OSError),
                socket.create_connection(("127.0.0.1", port)) as inner,
                context.wrap_socket(self.request, server_side=True) as outer,
            ):
                threading.Thread(target=_pass_on, args=(inner, outer), daemon=True).start()
                _pass_on(outer, inner)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Relay) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
