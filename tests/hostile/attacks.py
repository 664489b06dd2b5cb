"""The attacks: what reports have seen, each bounded in count, against a scene's agents."""

import os
import struct
import time
from collections.abc import Callable
from typing import Final

import msgpack

from tests.hostile.scene import Scene
from tests.hostile.speaking import GREETING, PING, Stranger, frame, ready
from tiers.core.batch import BatchId
from tiers.core.hop.messages import IDS_MAX, PROTOCOL, Ask, Hello, Ping
from tiers.core.life import START_BYTES, Point

TOPOLOGY: Final = "faults"  # of the scene
_MB: Final = bytes(1 << 20)


def control_garbage(scene: Scene) -> None:
    """Messages that are dear to unpack, of a megabyte and of what is let in."""
    for size in (2000, 250, 1):
        garbage = frame(msgpack.packb([[[] for _ in range(500)] for _ in range(size)]))
        for _ in range(10):
            with Stranger(scene.ports["agg-1"] + 1, b"DEALER") as stranger:
                for _ in range(20):
                    stranger.send(garbage)


def data_garbage(scene: Scene) -> None:
    """On the data port: many small messages, and some large ones."""
    for data in (frame(b"x") * 10_000, frame(_MB) * 4, frame(b"\xff" * 65_000) * 20):
        for _ in range(20):
            with Stranger(scene.ports["agg-1"], b"PUSH") as stranger:
                stranger.send(data)


def connections(scene: Scene) -> None:
    """Many connections to each port, which say nothing."""
    ports = (scene.ports["agg-1"], scene.ports["agg-1"] + 1, scene.status_port)
    held = [Stranger(port) for _ in range(1200) for port in ports]
    time.sleep(3.0)
    for one in held:
        one.close()


def half_handshakes(scene: Scene) -> None:
    """Greetings without a READY, and a READY cut short."""
    port = scene.ports["agg-1"]
    held = []
    for number in range(300):
        stranger = Stranger(port + number % 2)
        stranger.send((GREETING + ready(b"PUSH"))[: 1 + number % 80])
        held.append(stranger)
    time.sleep(3.0)
    for one in held:
        one.close()


def unfinished_frames(scene: Scene) -> None:
    """Frames of the largest size, of which all but the end comes."""
    held = []
    for _ in range(20):
        stranger = Stranger(scene.ports["agg-1"], b"PUSH")
        stranger.send(b"\x02" + struct.pack(">Q", 32 << 20))
        for _ in range(31):
            stranger.send(_MB)
        held.append(stranger)
    time.sleep(2.0)
    for one in held:
        one.close()


def pings_and_resets(scene: Scene) -> None:
    """ZMTP's PINGs behind a full pipe, and the connection reset."""
    port = scene.ports["agg-1"]
    for number in range(100):
        for to, kind, pairs in ((port + 1, b"DEALER", 3000), (port, b"PUSH", 400)):
            stranger = Stranger(to, kind)
            stranger.send((frame(b"x") + PING) * pairs)
            time.sleep((0.0005, 0.002, 0.005, 0.01)[number % 4])
            stranger.reset()


def hello_flood(scene: Scene) -> None:
    """HELLOs of ever other names, over one connection and over many."""
    with Stranger(scene.ports["agg-1"] + 1, b"DEALER") as stranger:
        for number in range(20):
            stranger.hello(TOPOLOGY, f"evil-{number}")
        for number in range(2000):
            stranger.say(Ping(os.urandom(8), number))
    held = []
    for number in range(300):
        stranger = Stranger(scene.ports["agg-1"] + 1, b"DEALER")
        stranger.hello(TOPOLOGY, f"many-{number}")
        held.append(stranger)
    time.sleep(2.0)
    for one in held:
        one.close()


def ask_flood(scene: Scene) -> None:
    """A session that asks for batches without end, and reads no answer."""
    ids = tuple(BatchId(os.urandom(16), number) for number in range(IDS_MAX))
    for number in range(5):
        with Stranger(scene.ports["agg-1"] + 1, b"DEALER") as stranger:
            if stranger.hello(TOPOLOGY, f"asks-{number}"):
                ask = Ask(stranger.session, stranger.channel, stranger.receiver, ids)
                for _ in range(500):
                    if not stranger.say(ask):
                        break


def many_parts(scene: Scene) -> None:
    """Messages of no byte, and of a million parts of no byte, with and without an end."""
    held = []
    for data in (b"\0\0" * 500_000, b"\1\0" * 1_000_000 + b"\0\0", b"\1\0" * 2_000_000):
        for number in range(4):
            port = scene.ports["agg-1"] + number % 2
            stranger = Stranger(port, (b"PUSH", b"DEALER")[number % 2])
            stranger.send(data)
            held.append(stranger)
    time.sleep(2.0)
    for one in held:
        one.close()


def session_flood(scene: Scene) -> None:
    """Sessions of a thousand names, which ask for credit and do not use it."""
    held = []
    for number in range(1000):
        stranger = Stranger(scene.ports["agg-1"] + 1, b"DEALER")
        if stranger.hello(TOPOLOGY, f"idle-{number}"):
            held.append(stranger)
    for number in range(10):
        for one in held:
            one.say(Ping(one.session, number))
        time.sleep(0.5)
    for one in held:
        one.close()


def deaf_sessions(scene: Scene) -> None:
    """Sessions that ask on and on, and read none of the answers."""
    ids = tuple(BatchId(os.urandom(16), number) for number in range(IDS_MAX))
    held = []
    for number in range(100):
        stranger = Stranger(scene.ports["agg-1"] + 1, b"DEALER")
        if stranger.hello(TOPOLOGY, f"deaf-{number}"):
            stranger.socket.settimeout(0.05)
            held.append(stranger)
    for _ in range(40):
        for one in held:
            one.say(Ask(one.session, one.channel, one.receiver, ids))
        time.sleep(0.2)
    for one in held:
        one.close()


def false_memories(scene: Scene) -> None:
    """A stranger that says it met the agent at a point that it never was at."""
    for number in range(50):
        with Stranger(scene.ports["agg-1"] + 1, b"DEALER") as stranger:
            if stranger.hello(TOPOLOGY, "liar"):
                met = ((stranger.receiver, Point(os.urandom(START_BYTES), number)),)
                words = (PROTOCOL, TOPOLOGY, "liar", stranger.channel, os.urandom(8))
                stranger.say(Hello(*words, met=met))
            time.sleep(0.2)


def http_nonsense(scene: Scene) -> None:
    """What is no HTTP, and headers that never end, on the status port."""
    slow = [Stranger(scene.status_port) for _ in range(50)]
    for number in range(600):
        with Stranger(scene.status_port) as stranger:
            stranger.send((b"GET /" + b"a" * 20_000, b"\0\x1b]0;x\x07\r\n\r\n")[number % 2])
        slow[number % 50].send(b"G")
    for one in slow:
        one.close()


def topology_is_a_pipe(scene: Scene) -> None:
    """In place of the topology file there is a pipe, then a device that never ends."""
    pipe, link = scene.file.with_suffix(".pipe"), scene.file.with_suffix(".link")
    text = scene.file.read_bytes()
    os.mkfifo(pipe)
    pipe.replace(scene.file)
    time.sleep(4.0)
    link.symlink_to("/dev/zero")
    link.replace(scene.file)
    time.sleep(4.0)
    fresh = scene.file.with_suffix(".new")
    fresh.write_bytes(text)
    fresh.replace(scene.file)


ATTACKS: Final[dict[str, Callable[[Scene], None]]] = {
    one.__name__.replace("_", " "): one
    for one in (
        control_garbage,
        data_garbage,
        connections,
        half_handshakes,
        unfinished_frames,
        pings_and_resets,
        hello_flood,
        ask_flood,
        many_parts,
        session_flood,
        deaf_sessions,
        false_memories,
        http_nonsense,
        topology_is_a_pipe,
    )
}
