"""A goim client over TCP: `python3 tcp_client.py <host> <port> <push-api>`, with the standard library alone.

Goes through every operation and every push kind; exits 0, or 1 with what went wrong.
"""

import socket
import sys

from goim_steps import TIMEOUT_S, Failed, Steps, check, say, split


class TcpConnection:
    def __init__(self, host, port):
        self.socket = socket.create_connection((host, port), timeout=TIMEOUT_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.data = b""

    def send(self, data):
        self.socket.sendall(data)

    def receive(self):
        while True:
            frame, self.data = split(self.data)
            if frame:
                return frame
            chunk = self.socket.recv(65536)
            check(chunk, f"the server closed the connection, {len(self.data)} bytes of a frame received")
            self.data += chunk

    def close(self):
        """Says that nothing more comes, and waits until the server has closed its side too."""
        self.socket.shutdown(socket.SHUT_WR)
        rest = self.socket.recv(65536)
        check(not rest and not self.data, f"unexpected bytes before the end: {(self.data + rest).hex()}")
        self.socket.close()


def main(host, port, push_api):
    connection = TcpConnection(host, int(port))
    Steps(connection, push_api, "tcp").run()
    connection.close()
    say("closed")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: tcp_client.py <host> <port> <push-api>")
    try:
        main(*sys.argv[1:])
    except (Failed, OSError, ValueError) as error:
        sys.exit(f"failed: {error}")
    print("passed: TCP client")
