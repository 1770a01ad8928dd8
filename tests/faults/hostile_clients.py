"""Clients that mean harm, against `serve` on this machine: others are answered all the same."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

from fault_counts import Counts, ending
from fault_world import World

_KEY = "a-secret"
_HOST = "127.0.0.1"
_THREADS = 8
_MEGABYTE = 2**20
_GROWTH = 150  # megabytes that the service may grow by
_HEAD = (
    b"POST /search HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Authorization: Bearer " + _KEY.encode() + b"\r\n"
)


def hostile_clients(world: World, seconds: float, seed: int = 0) -> list[Counts]:
    """A row: requests of fourteen kinds for so long, and questions with known answers between."""
    counts = Counts("hostile requests to serve")
    if seconds > 10:
        counts.must_hit = frozenset(attack.__name__.strip("_") for attack in ATTACKS)
    start = world.phases["train"].end
    limits = ["timeout=5", "max_bytes=1000000"]
    child = world.child(
        ["serve", f"run=runs/{world.run}", "port=0", f"api_key={_KEY}", *limits], start
    )
    heard = child.hear("serving http", 120.0)
    if "serving http" not in heard:
        raise RuntimeError(f"serve did not begin: {child.wait().said}")
    port = int(heard.partition(f"http://{_HOST}:")[2].split()[0])
    expected = _ask(port)
    before = _peak_megabytes(child.pid)
    stop = time.monotonic() + seconds
    attackers = [Attacker(port, random.Random(f"{seed}-{i}"), stop) for i in range(_THREADS)]
    for attacker in attackers:
        attacker.start()
    asked = 0
    while time.monotonic() < stop:
        asked += 1
        _compare(port, expected, counts)
    for attacker in attackers:
        attacker.join()
        attacker.count(counts)
    _compare(port, expected, counts)
    grown = _peak_megabytes(child.pid) - before
    if grown > _GROWTH:
        counts.found("lost", f"the service grew by {grown} MB")
    os.kill(child.pid, signal.SIGINT)
    ended = child.wait(60.0)
    if ended.code not in (0, 130):
        counts.found("lost", f"after Ctrl-C it ends with {ended.code}")
    if ended.has_traceback:
        counts.found("tracebacks", f"in its log: {ending(ended.said)}")
    counts.hit["fair questions between"] = asked
    return [counts]


def _compare(port: int, expected: object, counts: Counts) -> None:
    """A fair question; a service that is busy may be asked again."""
    patience = time.monotonic() + 30
    while True:
        try:
            answer = _ask(port)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if time.monotonic() < patience:
                continue
            counts.found("lost", f"a fair question was not answered in 30 s: {error!r}")
            return
        if answer != expected:
            counts.found("wrong", f"a fair question got another answer: {str(answer)[:200]}")
        return


def _ask(port: int) -> object:
    """The answers to a search and a completion; ValueError where one is not 200."""
    found = _post(port, "/search", {"texts": ["abcd efgh"], "k": 3})
    asked = {"prompt": "abcd efgh", "max_tokens": 12, "temperature": 0.8, "seed": 1}
    written = _post(port, "/v1/completions", asked)
    return found, written["choices"], written["usage"]


def _post(port: int, path: str, asked: dict[str, object]) -> dict[str, object]:
    connection = http.client.HTTPConnection(_HOST, port, timeout=20)
    try:
        body = json.dumps(asked)
        headers = {"Authorization": f"Bearer {_KEY}", "Content-Type": "application/json"}
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise ValueError(f"status {response.status}")
        return json.loads(answer)
    finally:
        connection.close()


def _peak_megabytes(pid: int) -> int:
    """The most memory that a process has had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))


class Attacker(threading.Thread):
    """Sends one hostile request after the other, and notes the status of what is answered."""

    def __init__(self, port: int, rng: random.Random, stop: float) -> None:
        super().__init__(daemon=True)
        self.port, self.rng, self.stop_at = port, rng, stop
        self.sent: dict[str, int] = {}
        self.statuses: dict[str, str] = {}
        self._held: list[socket.socket] = []

    def run(self) -> None:
        while time.monotonic() < self.stop_at:
            attack = self.rng.choice(ATTACKS)
            name = attack.__name__.strip("_")
            self.sent[name] = self.sent.get(name, 0) + 1
            try:
                answer = attack(self)
            except OSError:
                continue  # the service hung up: its right
            status = answer.split(b" ", 2)[1].decode("latin-1") if b" " in answer[:15] else ""
            if status in ("500", "502") or (status == "200" and attack not in _FAIR):
                self.statuses[name] = status
        for connection in self._held:
            connection.close()

    def count(self, counts: Counts) -> None:
        for name, number in self.sent.items():
            counts.tried += number
            counts.hit[name] += number
        for name, status in self.statuses.items():
            kind = "wrong" if status == "200" else "tracebacks"
            counts.found(kind, f"{name} was answered with {status}")

    def connect(self) -> socket.socket:
        return socket.create_connection((_HOST, self.port), timeout=10)

    def send(self, *parts: bytes) -> bytes:
        """The beginning of the answer to what is sent as it is."""
        with self.connect() as connection:
            for part in parts:
                connection.sendall(part)
            return connection.recv(4096)

    def hold(self, data: bytes) -> bytes:
        """Sends this much and no more; the connection stays open."""
        connection = self.connect()
        connection.sendall(data)
        self._held.append(connection)
        if len(self._held) > 40:
            self._held.pop(0).close()
        return b""


def _body(data: bytes) -> bytes:
    return _HEAD + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(data) + data


def _random_bytes(a: Attacker) -> bytes:
    return a.send(a.rng.randbytes(a.rng.randrange(1, 5000)) + b"\r\n\r\n")


def _half_a_head(a: Attacker) -> bytes:
    return a.hold(_HEAD[: a.rng.randrange(1, len(_HEAD))])


def _half_a_body(a: Attacker) -> bytes:
    return a.hold(_HEAD + b"Content-Length: 1000\r\n\r\n" + b"{" * a.rng.randrange(900))


def _wrong_key(a: Attacker) -> bytes:
    head = _HEAD.replace(_KEY.encode(), a.rng.choice((b"x", b"\xff\xfe", b"", b"k" * 5000)))
    return a.send(head + b"Content-Length: 900000\r\n\r\n", b" " * 900_000)


def _false_length(a: Attacker) -> bytes:
    head = _HEAD + b"Content-Length: 10\r\nTransfer-Encoding: chunked\r\n\r\n"
    part = b"%x\r\n" % _MEGABYTE + b" " * _MEGABYTE + b"\r\n"
    return a.send(head, *[part] * 30, b"0\r\n\r\n")


def _too_long(a: Attacker) -> bytes:
    return a.send(_HEAD + b"Content-Length: 20000000\r\n\r\n", *[b" " * _MEGABYTE] * 20)


def _deep(a: Attacker) -> bytes:
    return a.send(_body(b'{"texts": ' + b"[" * a.rng.choice((100, 2000, 200_000))))


def _odd_values(a: Attacker) -> bytes:
    odd = (
        rb'{"texts": ["\ud800"], "k": 3}', b'{"embeddings": [[1e999]], "k": 3}',
        b'{"embeddings": [[NaN]], "k": 3}', b'{"embeddings": [[Infinity, 1]], "k": 3}',
        b'{"texts": ["a"], "k": 1e999}', b'{"texts": ["a"], "k": -1}', b'{"texts": [1]}',
        b'{"texts": ["a"], "k": 99999999999999999999}', b'{"texts": [], "k": 1}', b"null", b"",
        b'{"texts": ["a"], "k": 4097}', b'{"texts": ["a"], "k": "many"}', b'{"tokens": [[-5]]}',
        b'{"tokens": [[9223372036854775807]], "k": 1}', b'{"tokens": [[9223372036854775808]]}',
        b'{"texts": ["a"], "nothing": 1}', b"\xff\xfe{}", b'{"texts": "a"}', b'{"tokens": [["a"]]}',
    )  # fmt: skip
    return a.send(_body(a.rng.choice(odd)))


def _many_at_once(a: Attacker) -> bytes:
    return a.send(_body(b'{"texts": ["abcd"], "k": 2}') * a.rng.randrange(2, 60))


def _hang_up(a: Attacker) -> bytes:
    with a.connect() as connection:
        connection.sendall(_body(b'{"texts": ["abcd"], "k": 2}'))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return b""


def _odd_paths(a: Attacker) -> bytes:
    path = a.rng.choice((b"/../../etc/passwd", b"/%00", b"//", b"/" + b"a" * 70_000, b"*", b""))
    method = a.rng.choice((b"GET", b"PUT", b"TRACE", b"CONNECT", b"get", b"\x00"))
    return a.send(method + b" " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")


def _long_head(a: Attacker) -> bytes:
    return a.send(_HEAD + b"X: " + b"a" * _MEGABYTE + b"\r\n\r\n")


def _completion(data: bytes) -> bytes:
    return _body(data).replace(b"/search", b"/v1/completions", 1)


def _odd_completions(a: Attacker) -> bytes:
    odd = (
        rb'{"prompt": "\ud800"}', b'{"prompt": []}', b'{"prompt": [""], "max_tokens": 0}',
        b'{"prompt": "a", "max_tokens": 9223372036854775807}', b'{"prompt": "a", "n": 1000000}',
        b'{"prompt": "a", "temperature": NaN}', b'{"prompt": "a", "temperature": -1e-300}',
        b'{"prompt": "a", "top_p": 0}', b'{"prompt": "a", "seed": -1}', b'{"prompt": [["a"]]}',
        b'{"prompt": "a", "stop": ["' + b"b" * 300_000 + b'"]}', b'{"prompt": "a", "model": ""}',
        b'{"prompt": "a", "stream": "perhaps"}', b'{"prompt": "' + b"a b " * 200_000 + b'"}',
        b'{"prompt": [' + b'"a",' * 200_000 + b'"a"]}', b'{"prompt": "a", "logit_bias": [1]}',
    )  # fmt: skip
    return a.send(_completion(a.rng.choice(odd)))


def _leave_a_stream(a: Attacker) -> bytes:
    with a.connect() as connection:
        asked = b'{"prompt": "abcd", "max_tokens": 1000, "stream": true}'
        connection.sendall(_completion(asked))
        answer = connection.recv(a.rng.randrange(20, 2000))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return answer


ATTACKS: tuple[Callable[[Attacker], bytes], ...] = (
    _random_bytes, _half_a_head, _half_a_body, _wrong_key, _false_length, _too_long, _deep,
    _odd_values, _many_at_once, _hang_up, _odd_paths, _long_head,
    _odd_completions, _leave_a_stream,
)  # fmt: skip
_FAIR = (_many_at_once, _leave_a_stream)
"""Kinds of which an answer with 200 is right."""
