"""What both clients go through, over any connection that can send and receive goim frames.

A connection has `send(bytes)`, which puts out bytes in one segment or message, and `receive() -> Frame`, which waits
a bounded time for the next frame and raises `Failed` when there is none.
"""

import json
import struct
import urllib.error
import urllib.parse
import urllib.request
import uuid
from typing import NamedTuple

HEADER = struct.Struct(">ihhii")
TIMEOUT_S = 20
MAX_FRAME = 1 << 20
# The server under test is on this machine or beside it, whatever proxy the environment names.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))

HEARTBEAT, SEND, AUTH, RAW, CHANGE_ROOM, SUB, UNSUB = 2, 4, 7, 9, 12, 14, 16


class Failed(Exception):
    """A step did not go as the protocol says."""


class Frame(NamedTuple):
    ver: int
    op: int
    seq: int
    body: bytes


def encode(op, seq, body=b"", ver=1):
    return HEADER.pack(HEADER.size + len(body), HEADER.size, ver, op, seq) + body


def split(data):
    """The first frame of `data` and the bytes behind it; None for the frame while it is incomplete."""
    if len(data) < HEADER.size:
        return None, data
    pack_len, header_len, ver, op, seq = HEADER.unpack_from(data)
    if header_len != HEADER.size or not HEADER.size <= pack_len <= MAX_FRAME:
        raise Failed(f"a frame with packLen {pack_len}, headerLen {header_len}")
    if len(data) < pack_len:
        return None, data
    return Frame(ver, op, seq, data[HEADER.size : pack_len]), data[pack_len:]


class Steps:
    def __init__(self, connection, push_api, name):
        self.connection = connection
        self.push_api = push_api.rstrip("/")
        self.mid = uuid.uuid4().int % 1_000_000_000 + 1
        self.key = f"{name}-{uuid.uuid4()}"
        self.seq = 0

    def run(self):
        self.authenticate()
        self.heartbeat()
        self.pushes()
        self.change_room()
        self.sub_and_unsub()
        self.application_operation()
        self.hundred_heartbeats()

    def authenticate(self):
        token = {"mid": self.mid, "key": self.key, "room_id": "live://python", "platform": "python", "accepts": [1000]}
        self.request(AUTH, json.dumps(token).encode(), reply_op=AUTH + 1, reply_body=b"")
        say("authenticated")

    def heartbeat(self):
        reply = self.request(HEARTBEAT, b"", reply_op=HEARTBEAT + 1)
        check(len(reply.body) == 4, f"a heartbeat's reply has 4 bytes, not {len(reply.body)}")
        (online,) = struct.unpack(">i", reply.body)
        check(online >= 1, f"{online} online in the own room")
        say(f"heartbeat answered, {online} online")

    def pushes(self):
        for kind, query in [
            ("keys", [("keys", self.key)]),
            ("mids", [("mids", self.mid)]),
            ("room", [("type", "live"), ("room", "python")]),
            ("all", []),
        ]:
            self.expect_push(1000, self.push(kind, 1000, query))
            say(f"push by {kind} received")

    def change_room(self):
        room = f"python-{uuid.uuid4()}"
        room_id = f"live://{room}".encode()
        self.request(CHANGE_ROOM, room_id, reply_op=CHANGE_ROOM + 1, reply_body=room_id)
        self.push("room", 1000, [("type", "live"), ("room", "python")])
        self.expect_push(1000, self.push("room", 1000, [("type", "live"), ("room", room)]))
        reply = self.request(HEARTBEAT, b"", reply_op=HEARTBEAT + 1)
        check(reply.body == struct.pack(">i", 1), f"one is online in the new room, not {reply.body.hex()}")
        say("room changed, its push received")

    def sub_and_unsub(self):
        by_key = [("keys", self.key)]
        self.request(SUB, b"1001", reply_op=SUB + 1, reply_body=b"1001")
        self.expect_push(1001, self.push("keys", 1001, by_key))
        say("subscribed operation received")
        self.request(UNSUB, b"1001", reply_op=UNSUB + 1, reply_body=b"1001")
        self.push("keys", 1001, by_key)
        # Pushes to one key keep their order: that the later one comes next shows that the earlier one was filtered.
        self.expect_push(1000, self.push("keys", 1000, by_key))
        say("unsubscribed operation not received")

    def application_operation(self):
        self.request(SEND, b"hello", reply_op=SEND, reply_body=b"")
        say("application operation answered")

    def hundred_heartbeats(self):
        first = self.seq + 1
        self.seq += 100
        self.connection.send(b"".join(encode(HEARTBEAT, seq) for seq in range(first, first + 100)))
        for seq in range(first, first + 100):
            frame = self.connection.receive()
            check((frame.op, frame.seq) == (HEARTBEAT + 1, seq), f"the answer to heartbeat {seq} is {frame}")
        say("100 heartbeats answered in order")

    def request(self, op, body, reply_op, reply_body=None):
        self.seq += 1
        self.connection.send(encode(op, self.seq, body))
        frame = self.connection.receive()
        check((frame.ver, frame.op, frame.seq) == (1, reply_op, self.seq), f"operation {op} was answered by {frame}")
        if reply_body is not None:
            check(frame.body == reply_body, f"operation {op} was answered with the body {frame.body!r}")
        return frame

    def push(self, kind, operation, query):
        body = f"{kind} {operation} {uuid.uuid4()} ✓".encode()
        parameters = urllib.parse.urlencode([("operation", operation), *query])
        request = urllib.request.Request(f"{self.push_api}/goim/push/{kind}?{parameters}", data=body)
        try:
            with DIRECT.open(request, timeout=TIMEOUT_S) as response:
                answer = json.load(response)
        except (urllib.error.URLError, ValueError) as error:
            raise Failed(f"the push API did not take a push by {kind}: {error}") from error
        check(answer.get("code") == 0, f"a push by {kind} was answered with {answer}")
        return body

    def expect_push(self, operation, body):
        frame = self.connection.receive()
        check((frame.op, frame.body) == (operation, body), f"expected {body!r} with {operation}, received {frame}")


def check(holds, otherwise):
    if not holds:
        raise Failed(otherwise)


def say(step):
    print(f"ok: {step}", flush=True)
