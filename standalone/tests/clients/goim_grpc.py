"""goim's gRPC for the scripts that stand in for goim's services: its schemas alone, its options, and a log of calls.

Nothing here knows a field or a service of this project: what goim's peers cannot see, these cannot see either.
"""

import pathlib
import sys
import threading
import time
from concurrent import futures
from typing import NamedTuple

import grpc
from google.protobuf.unknown_fields import UnknownFieldSet

from goim_steps import RAW, TIMEOUT_S, check, encode

# The schemas in goim_api are found from here.
sys.path.insert(0, str(pathlib.Path(__file__).parent))
protocol = grpc.protos("goim_api/protocol.proto")
comet, comet_services = grpc.protos_and_services("goim_api/comet.proto")
logic, logic_services = grpc.protos_and_services("goim_api/logic.proto")

MAX_MESSAGE = 1 << 24
# This project's own fields have numbers from here on.
EXTENSIONS = 1000

SIZES = [("grpc.max_send_message_length", MAX_MESSAGE), ("grpc.max_receive_message_length", MAX_MESSAGE)]
# goim's clients: a ping every 10 s, answered within 3 s, also without a call under way.
CLIENT_OPTIONS = SIZES + [
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_http_proxy", 0),
]
# goim's servers: its example configuration. How often a client may ping stays at gRPC's default, as goim has it.
SERVER_OPTIONS = SIZES + [
    ("grpc.max_connection_idle_ms", 60_000),
    ("grpc.max_connection_age_ms", 7_200_000),
    ("grpc.max_connection_age_grace_ms", 20_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.so_reuseport", 0),
]


class Call(NamedTuple):
    method: str
    request: object


class Log:
    """The calls that a service has got, in their order; thread-safe."""

    def __init__(self):
        self.calls = []
        self.strange = []
        self.changed = threading.Condition()

    def add(self, method, request):
        unknown = [field.field_number for field in UnknownFieldSet(request)]
        with self.changed:
            self.calls.append(Call(method, request))
            if any(number < EXTENSIONS for number in unknown):
                self.strange.append(f"{method} has the fields {unknown}")
            self.changed.notify_all()

    def of(self, *methods):
        with self.changed:
            return [call.request for call in self.calls if call.method in methods]

    def expect(self, method, request):
        """Waits for a call; extension fields do not count."""
        came = self.wait(lambda: any(goims(got) == request for got in self.of(method)))
        check(came, f"no {method} of {request}, but\n{self}")

    def count(self, method, number):
        """Waits until so many calls of a method have come."""
        check(self.wait(lambda: len(self.of(method)) >= number), f"fewer than {number} {method}:\n{self}")

    def wait(self, holds):
        with self.changed:
            held = self.changed.wait_for(holds, TIMEOUT_S)
            check(not self.strange, f"fields that are not goim's: {self.strange}")
            return held

    def __str__(self):
        with self.changed:
            told = [f"{call.method}({goims(call.request)})".replace("\n", " ")[:200] for call in self.calls]
        # Reports are the same for long.
        return "\n".join(call for call, before in zip(told, [None, *told]) if call != before)


def goims(message):
    """A copy with goim's own fields alone."""
    copy = type(message)()
    copy.CopyFrom(message)
    copy.DiscardUnknownFields()
    return copy


def serve(add_to_server, servicer, address="127.0.0.1:0"):
    """A server at an address, and the address."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=SERVER_OPTIONS)
    add_to_server(servicer, server)
    port = server.add_insecure_port(address)
    check(port, f"{address} is taken")
    server.start()
    return server, f"127.0.0.1:{port}"


def meet(address):
    """Tells the test where this side listens, and hears where the other side does: addresses by name."""
    print(f"listening {address}", flush=True)
    return dict(word.split("=") for word in sys.stdin.readline().split())


def dial(address):
    return grpc.insecure_channel(address, CLIENT_OPTIONS)


def raw(*messages):
    """As goim's job sends messages: (operation, body) each, as whole frames within a Raw."""
    frames = b"".join(encode(operation, 0, body) for operation, body in messages)
    return protocol.Proto(ver=1, op=RAW, body=frames)


def eventually(what, holds):
    end = time.monotonic() + TIMEOUT_S
    while not holds():
        check(time.monotonic() < end, f"not within {TIMEOUT_S} s: {what}")
        time.sleep(0.01)


def refused(what, call):
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError(f"{what} was not refused")
