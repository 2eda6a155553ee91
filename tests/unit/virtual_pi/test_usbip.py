"""The USB/IP server against friendly, malformed and random requests, over real sockets, without a guest."""

from __future__ import annotations

import logging
import socket
import struct
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.virtual_pi import uac1
from tests.virtual_pi.acoustics import Room, tone
from tests.virtual_pi.server import UsbipServer
from tests.virtual_pi.sh04 import Sh04

IMPORT = struct.pack(">HHI", 0x0111, 0x8003, 0)
DEVICES = struct.pack(">HHI", 0x0111, 0x8005, 0)


@pytest.fixture(scope="module")
def server() -> Iterator[UsbipServer]:
    with UsbipServer() as running:
        yield running


def connect(server: UsbipServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), 10)


def receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise ConnectionError(f"closed after {len(data)} of {size} bytes")
        data += more
    return data


def attach(server: UsbipServer, busid: str) -> socket.socket:
    connection = connect(server)
    connection.sendall(IMPORT + busid.encode().ljust(32, b"\0"))
    assert receive(connection, 8) == struct.pack(">HHI", 0x0111, 3, 0)
    assert receive(connection, 312)[256:288].rstrip(b"\0") == busid.encode()
    return connection


def submit(
    sequence: int,
    endpoint: int,
    direction: int,
    length: int,
    *,
    setup: bytes = bytes(8),
    packets: int = -1,
    extra: bytes = b"",
) -> bytes:
    head = struct.pack(">5I", 1, sequence, 1, direction, endpoint)
    return head + struct.pack(">Iiiii", 0, length, 0, packets, 1) + setup + extra


def microphone_urb(sequence: int, packets: int, size: int = 98) -> bytes:
    table = b"".join(struct.pack(">4I", i * size, size, 0, 0) for i in range(packets))
    return submit(sequence, 1, 1, packets * size, packets=packets, extra=table)


def control(connection: socket.socket, setup: bytes, data: bytes = b"") -> tuple[int, bytes]:
    inbound = setup[0] >> 7
    size = int.from_bytes(setup[6:8], "little")
    connection.sendall(submit(9, 0, inbound, size, setup=setup, extra=data))
    reply = receive(connection, 48)
    status, actual = struct.unpack(">ii", reply[20:28])
    return status, receive(connection, actual) if inbound else b""


def serves(server: UsbipServer) -> bool:
    """Whether it lists its devices to the next one who asks."""
    with connect(server) as connection:
        connection.sendall(DEVICES)
        return receive(connection, 8) == struct.pack(">HHI", 0x0111, 5, 0)


def test_devices_are_listed_with_their_interfaces(server: UsbipServer) -> None:
    busid = server.plug(Sh04())
    with connect(server) as connection:
        connection.sendall(DEVICES)
        assert struct.unpack(">I", receive(connection, 12)[8:])[0] == 1
        record = receive(connection, 312 + 3 * 4)
    assert struct.unpack(">HH", record[300:304]) == (0x4C4A, 0x4155)
    assert record[312:] == bytes((1, 1, 0, 0, 1, 2, 0, 0, 1, 2, 0, 0))
    server.unplug(busid)


def test_an_unknown_device_is_refused(server: UsbipServer) -> None:
    with connect(server) as connection:
        connection.sendall(IMPORT + b"9-9".ljust(32, b"\0"))
        assert struct.unpack(">I", receive(connection, 8)[4:]) == (1,)


def test_a_device_goes_to_who_asks_last(server: UsbipServer) -> None:
    """A guest that was reset says no good-bye."""
    busid = server.plug(Sh04())
    with attach(server, busid) as before, attach(server, busid) as after:
        assert before.recv(1) == b""
        status, device = control(after, bytes((0x80, 6, 0, 1, 0, 0, 18, 0)))
        assert (status, len(device)) == (0, 18)
    server.unplug(busid)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("speaker", [0, 2])
def test_descriptors_add_up(channels: int, speaker: int) -> None:
    """Each length and total that the kernel's parser follows."""
    who = uac1.Identity(
        microphone_channels=channels, microphone_rates=(16_000, 48_000), speaker_channels=speaker
    )
    whole = uac1.configuration_descriptor(who)
    assert int.from_bytes(whole[2:4], "little") == len(whole)
    at, kinds = 0, []
    while at < len(whole):
        kinds.append(whole[at + 1])
        at += whole[at]
    assert at == len(whole)
    assert kinds.count(4) == (5 if speaker else 3)
    assert kinds.count(5) == (2 if speaker else 1)


def test_controls_keep_what_is_set_and_stall_on_nonsense(server: UsbipServer) -> None:
    device = Sh04(uac1.Identity(microphone_rates=(16_000, 48_000)))
    busid = server.plug(device)
    with attach(server, busid) as connection:
        rate = (16_000).to_bytes(3, "little")
        assert control(connection, bytes((0x22, 1, 0, 1, 0x81, 0, 3, 0)), rate) == (0, b"")
        assert control(connection, bytes((0xA2, 0x81, 0, 1, 0x81, 0, 3, 0))) == (0, rate)
        odd = (44_100).to_bytes(3, "little")
        assert control(connection, bytes((0x22, 1, 0, 1, 0x81, 0, 3, 0)), odd) == (-32, b"")
        assert control(connection, bytes((0x21, 1, 0, 2, 0, 2, 2, 0)), b"\x00\xfa") == (0, b"")
        assert control(connection, bytes((0xA1, 0x81, 0, 2, 0, 2, 2, 0))) == (0, b"\x00\xfa")
        assert control(connection, bytes((0xA1, 0x81, 0, 9, 0, 7, 2, 0))) == (-32, b"")
    assert device.controls[uac1.MICROPHONE_UNIT, uac1.VOLUME] == -6 * 256
    server.unplug(busid)


def read_urb(connection: socket.socket, inbound: bool = True) -> tuple[int, bytes, list[tuple[int, ...]]]:
    reply = receive(connection, 48)
    sequence = int.from_bytes(reply[4:8], "big")
    _, actual, _, count, _ = struct.unpack(">iiiii", reply[20:40])
    data = receive(connection, actual) if inbound else b""
    table = [struct.unpack(">IIIi", receive(connection, 16)) for _ in range(max(0, count))]
    return sequence, data, table


def test_urbs_complete_in_order_and_in_time_without_a_seam(server: UsbipServer) -> None:
    busid = server.plug(Sh04(source=tone(440.0)))
    with attach(server, busid) as connection:
        connection.sendall(b"".join(microphone_urb(n, 8) for n in range(1, 33)))
        began = time.monotonic()
        data = b""
        for wanted in range(1, 33):
            sequence, part, table = read_urb(connection)
            assert sequence == wanted
            assert [entry[2:] for entry in table] == [(96, 0)] * 8
            data += part
        assert time.monotonic() - began > 0.25  # 256 frames of a millisecond
    signal = np.frombuffer(data, "<i2") / 32768
    error = signal[2:] - 2 * np.cos(2 * np.pi * 440 / 48_000) * signal[1:-1] + signal[:-2]
    assert np.abs(error).max() < 0.001
    server.unplug(busid)


def test_packets_without_room_stay_empty(server: UsbipServer) -> None:
    busid = server.plug(Sh04())
    with attach(server, busid) as connection:
        connection.sendall(microphone_urb(1, 4, size=0))
        assert read_urb(connection) == (1, b"", [(0, 0, 0, 0)] * 4)
    server.unplug(busid)


def test_a_source_that_fails_ends_the_connection_with_a_log_line(
    server: UsbipServer, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(samples: int, rate: int) -> np.ndarray:
        raise RuntimeError("no sound today")

    busid = server.plug(Sh04(source=broken))
    with attach(server, busid) as connection:
        connection.sendall(microphone_urb(1, 4))
        assert drained(connection) == b""
    assert "no sound today" in caplog.text
    assert serves(server)
    server.unplug(busid)


def test_unlink_takes_back_what_waits_and_only_that(server: UsbipServer) -> None:
    busid = server.plug(Sh04())
    with attach(server, busid) as connection:
        connection.sendall(b"".join(microphone_urb(n, 100) for n in (1, 2, 3)))
        connection.sendall(struct.pack(">6I", 2, 7, 1, 0, 0, 2) + bytes(24))
        reply = receive(connection, 48)
        assert struct.unpack(">II12xi", reply[:24]) == (4, 7, -104)
        assert [read_urb(connection)[0] for _ in range(2)] == [1, 3]
        connection.sendall(struct.pack(">6I", 2, 8, 1, 0, 0, 1) + bytes(24))
        assert struct.unpack(">II12xi", receive(connection, 48)[:24]) == (4, 8, 0)
    server.unplug(busid)


@pytest.mark.parametrize(("fault", "status"), [("stalled", -32), ("babble", -75)])
def test_faults_fail_packets(server: UsbipServer, fault: str, status: int) -> None:
    device = Sh04()
    setattr(device, fault, 1)
    busid = server.plug(device)
    with attach(server, busid) as connection:
        connection.sendall(microphone_urb(1, 4))
        _, data, table = read_urb(connection)
        assert data == b""
        assert [entry[2:] for entry in table] == [(0, status)] * 4
    server.unplug(busid)


def test_unplug_ends_the_connection(server: UsbipServer) -> None:
    busid = server.plug(Sh04())
    with attach(server, busid) as connection:
        server.unplug(busid)
        assert connection.recv(1) == b""


MALFORMED = {
    "version": struct.pack(">HHI", 0x0100, 0x8005, 0),
    "operation": struct.pack(">HHI", 0x0111, 0x8004, 0),
    "http": b"GET / HTTP/1.1\r\nHost: pi\r\n\r\n",
}
MALFORMED_AFTER_IMPORT = {
    "command": struct.pack(">5I", 9, 1, 1, 0, 0) + bytes(28),
    "endpoint": submit(1, 99, 0, 0),
    "direction": submit(1, 0, 2, 0),
    "negative length": submit(1, 0, 1, -1),
    "huge length": submit(1, 0, 1, 1 << 30),
    "too many packets": submit(1, 1, 1, 100, packets=1 << 20),
    "negative packets": submit(1, 1, 1, 100, packets=-5),
    "packet outside": submit(1, 1, 1, 96, packets=1, extra=struct.pack(">4I", 90, 96, 0, 0)),
    "isochronous elsewhere": submit(1, 5, 1, 96, packets=1, extra=struct.pack(">4I", 0, 96, 0, 0)),
}


@pytest.mark.parametrize("name", [*MALFORMED, *MALFORMED_AFTER_IMPORT])
def test_malformed_requests_close_that_connection_with_a_log_line(
    server: UsbipServer, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    busid = server.plug(Sh04())
    with caplog.at_level(logging.WARNING, "tests.virtual_pi.server"):
        with connect(server) if name in MALFORMED else attach(server, busid) as connection:
            connection.sendall(MALFORMED.get(name) or MALFORMED_AFTER_IMPORT[name])
            assert drained(connection) == b""
        server.unplug(busid)
    assert [record.getMessage().split()[0] for record in caplog.records] == ["usbip.malformed"]
    assert serves(server)


def drained(connection: socket.socket) -> bytes:
    """All that comes until the other side closes; a reset closes too, when it left bytes unread."""
    data = b""
    try:
        while more := connection.recv(65536):
            data += more
    except ConnectionResetError:
        pass
    return data


@settings(max_examples=60, deadline=None)
@given(start=st.sampled_from(["", "devices", "import"]), noise=st.binary(max_size=300))
def test_noise_never_stops_the_server(server: UsbipServer, start: str, noise: bytes) -> None:
    busid = server.plug(Sh04())
    if start == "import":
        connection = attach(server, busid)
    else:
        connection = connect(server)
        noise = (DEVICES if start else b"") + noise
    with connection:
        try:
            connection.sendall(noise)
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it may be closed before the last byte is sent
        drained(connection)
    assert serves(server)
    server.unplug(busid)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_flipped_fields_never_stop_the_server(server: UsbipServer, data: st.DataObject) -> None:
    """A valid stream of commands with a few bytes changed: deeper than noise gets."""
    busid = server.plug(Sh04())
    good = submit(1, 0, 1, 18, setup=bytes((0x80, 6, 0, 1, 0, 0, 18, 0))) + microphone_urb(2, 2) * 2
    bad = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        bad[data.draw(st.integers(0, len(bad) - 1))] = data.draw(st.integers(0, 255))
    with attach(server, busid) as connection:
        connection.sendall(bytes(bad))
        connection.shutdown(socket.SHUT_WR)
        drained(connection)
    assert serves(server)
    server.unplug(busid)


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_the_room_delays_and_attenuates(rate: int) -> None:
    room = Room(delay_ms=25.0, gain=0.5)
    hertz, start = 300.0, 100.0
    played = np.sin(2 * np.pi * hertz * np.arange(rate) / rate)
    for block in range(100):
        size = rate // 100
        room.play(start + block / 100, played[block * size : (block + 1) * size], rate)
    assert np.abs(room.heard(start, round(0.024 * rate), rate)).max() == 0.0
    heard = room.heard(start + 0.025 + 0.1, rate // 2, rate)
    expected = 0.5 * np.sin(2 * np.pi * hertz * (0.1 + np.arange(rate // 2) / rate))
    assert np.abs(heard - expected).max() < 0.03
