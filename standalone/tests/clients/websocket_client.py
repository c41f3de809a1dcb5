"""A goim client over WebSocket: `python3 websocket_client.py <host> <port> <push-api>`, with the package `websockets`.

Goes through every operation and every push kind, ping, text messages and the closing handshake; exits 0, or 1 with
what went wrong.
"""

import struct
import sys
from collections import deque

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from goim_steps import HEARTBEAT, RAW, TIMEOUT_S, Failed, Steps, check, encode, say, split


class WebSocketConnection:
    def __init__(self, socket):
        self.socket = socket
        self.frames = deque()

    def send(self, data):
        self.socket.send(data)

    def receive(self):
        while not self.frames:
            message = self.socket.recv(timeout=TIMEOUT_S)
            check(isinstance(message, bytes), f"a text message from the server: {message!r}")
            self.frames.extend(walk(message))
        return self.frames.popleft()


def walk(message):
    """The frames of a message; those that a Raw carries stand in its place."""
    while message:
        frame, message = split(message)
        check(frame, "a frame that is longer than its message")
        if frame.op != RAW:
            yield frame
            continue
        inner = frame.body
        while inner:
            carried, inner = split(inner)
            check(carried and carried.op != RAW, "a Raw that does not carry whole frames")
            yield carried


def ping(connection):
    for payload in (b"", b"comet", bytes(range(125))):
        # The library sets the event for a pong with this very payload only.
        pong = connection.socket.ping(payload)
        check(pong.wait(TIMEOUT_S), f"no pong for {payload!r}")
    say("pings answered with their payload")


def text_message(connection):
    heartbeat = encode(HEARTBEAT, 77).decode("ascii")
    connection.send(heartbeat)
    frame = connection.receive()
    check((frame.op, frame.seq) == (HEARTBEAT + 1, 77), f"a heartbeat in a text message was answered by {frame}")
    check(struct.unpack(">i", frame.body)[0] >= 1, f"its answer has the body {frame.body.hex()}")
    say("text message answered")


def close(connection):
    socket = connection.socket
    socket.close(1000, "done")
    check(not connection.frames, f"unexpected frames before the end: {connection.frames}")
    received = socket.protocol.close_rcvd
    check(received is not None, "no Close frame came back")
    check(received.code == 1000, f"the Close frame came back with code {received.code}")
    say("closed with 1000")


def main(host, port, push_api):
    # Pings are this test's own: the library's would come in between.
    with connect(f"ws://{host}:{port}/sub", open_timeout=TIMEOUT_S, ping_interval=None, proxy=None) as socket:
        connection = WebSocketConnection(socket)
        Steps(connection, push_api, "websocket").run()
        ping(connection)
        text_message(connection)
        close(connection)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: websocket_client.py <host> <port> <push-api>")
    try:
        main(*sys.argv[1:])
    except (Failed, WebSocketException, OSError, ValueError) as error:
        sys.exit(f"failed: {error}")
    print("passed: WebSocket client")
