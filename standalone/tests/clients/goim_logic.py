"""goim's logic and job around a comet: `python3 goim_logic.py`, with the package `grpcio`.

Prints `listening <address>` of its Logic service, reads `tcp=<address> http=<address> grpc=<address>` of the comet that
calls it as `interop`, and goes through everything that goim's services and clients do with a comet. Exits 0, or 1 with what
went wrong.
"""

import json
import struct
import sys
import uuid

import grpc
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from goim_grpc import (
    Log,
    comet,
    comet_services,
    dial,
    eventually,
    logic,
    logic_services,
    meet,
    protocol,
    raw,
    refused,
    serve,
)
from goim_steps import AUTH, CHANGE_ROOM, HEARTBEAT, SEND, TIMEOUT_S, Failed, check, encode, say
from tcp_client import TcpConnection
from websocket_client import WebSocketConnection

SERVER = "interop"
ELSEWHERE = 41
MINUTE_NS = 60_000_000_000


class Logic(logic_services.LogicServicer):
    """goim's logic with its sessions in memory: it reads goim's fields and answers with goim's fields."""

    def __init__(self):
        self.log = Log()
        self.sessions = {}

    def Connect(self, request, context):
        self.log.add("Connect", request)
        try:
            token = json.loads(request.token)
        except ValueError as error:
            # A plain error of a Go service has this code.
            context.abort(grpc.StatusCode.UNKNOWN, str(error))
        key = token["key"] or str(uuid.uuid4())
        self.sessions[key] = request.server
        return logic.ConnectReply(
            mid=token["mid"], key=key, roomID=token["room_id"], accepts=token["accepts"], heartbeat=8 * MINUTE_NS
        )

    def Disconnect(self, request, context):
        self.log.add("Disconnect", request)
        return logic.DisconnectReply(has=self.sessions.pop(request.key, None) is not None)

    def Heartbeat(self, request, context):
        self.log.add("Heartbeat", request)
        return logic.HeartbeatReply()

    def RenewOnline(self, request, context):
        self.log.add("RenewOnline", request)
        everywhere = {room: count + ELSEWHERE for room, count in request.roomCount.items()}
        return logic.OnlineReply(allRoomCount=everywhere)

    def Receive(self, request, context):
        self.log.add("Receive", request)
        if request.proto.body == b"fail":
            context.abort(grpc.StatusCode.UNKNOWN, "as told")
        return logic.ReceiveReply()

    def Nodes(self, request, context):
        raise NotImplementedError("comets do not ask for nodes")


class Client:
    """A goim client over either door."""

    def __init__(self, connection):
        self.connection = connection
        self.seq = 0

    def log_in(self, token):
        self.request(AUTH, token)
        return self

    def request(self, op, body=b"", reply_op=None):
        self.seq += 1
        self.connection.send(encode(op, self.seq, body))
        frame = self.connection.receive()
        expected = (1, reply_op or op + 1, self.seq)
        check((frame.ver, frame.op, frame.seq) == expected, f"operation {op} was answered by {frame}")
        return frame.body

    def online(self):
        (count,) = struct.unpack(">i", self.request(HEARTBEAT))
        return count

    def gets(self, *pushes):
        for push in pushes:
            frame = self.connection.receive()
            check((frame.op, frame.body) == push, f"expected {push}, received {frame}")


class Scenario:
    def __init__(self, server, address, service, addresses):
        self.server, self.address, self.service = server, address, service
        self.log = service.log
        self.addresses = addresses
        self.channel = dial(addresses["grpc"])
        self.job = comet_services.CometStub(self.channel)

    def run(self):
        self.log_in()
        self.refuse()
        self.count_online()
        self.receive()
        self.change_room()
        self.push()
        self.push_much()
        self.refuse_pushes()
        self.call_nothing_unasked()
        self.restart()
        self.log_out()

    def log_in(self):
        one = token(7, "one", "live://1", [1000, 1001])
        self.one = Client(TcpConnection(*host_and_port(self.addresses["tcp"]))).log_in(one)
        self.log.expect("Connect", logic.ConnectReq(server=SERVER, token=one))
        two = token(-8, "", "", [1000])
        self.socket = connect(
            f"ws://{self.addresses['http']}/sub",
            additional_headers={"Cookie": "who=two; where=here"},
            open_timeout=TIMEOUT_S,
            ping_interval=None,
            proxy=None,
        )
        self.two = Client(WebSocketConnection(self.socket)).log_in(two)
        self.log.expect("Connect", logic.ConnectReq(server=SERVER, cookie="who=two; where=here", token=two))
        (self.key_of_two,) = self.service.sessions.keys() - {"one"}
        say("logged in over both doors")

    def refuse(self):
        client = TcpConnection(*host_and_port(self.addresses["tcp"]))
        client.send(encode(AUTH, 1, b"not a token"))
        frame = client.receive()
        check(frame.op == 6, f"a refused token was answered by {frame}")
        client.close()
        say("refused")

    def count_online(self):
        self.log.expect("RenewOnline", logic.OnlineReq(server=SERVER, roomCount={"live://1": 1}))
        eventually("the count over all comets", lambda: self.one.online() == 1 + ELSEWHERE)
        check(self.two.online() == 0, "a count without a room")
        for client, mid, key in [(self.one, 7, "one"), (self.two, -8, self.key_of_two)]:
            # A session is renewed by the first heartbeat after a while.
            eventually(f"a Heartbeat of {key}", lambda: client.online() >= 0 and self.renewed(key))
            self.log.expect("Heartbeat", logic.HeartbeatReq(mid=mid, key=key, server=SERVER))
        say("counted, and renewed")

    def renewed(self, key):
        return any(request.key == key for request in self.log.of("Heartbeat"))

    def receive(self):
        for body in (b"hello \x00\xff", b"fail", b""):
            check(self.one.request(SEND, body, reply_op=SEND) == b"", "an answer has a body")
            told = protocol.Proto(ver=1, op=SEND, seq=self.one.seq, body=body)
            self.log.expect("Receive", logic.ReceiveReq(mid=7, proto=told))
        say("messages of clients told")

    def change_room(self):
        check(self.one.request(CHANGE_ROOM, b"live://2") == b"live://2", "the answer names the room")
        self.log.expect("RenewOnline", logic.OnlineReq(server=SERVER, roomCount={"live://2": 1}))
        eventually("the count in the new room", lambda: self.one.online() == 1 + ELSEWHERE)
        rooms = self.job.Rooms(comet.RoomsReq(), timeout=TIMEOUT_S)
        check(rooms == comet.RoomsReply(rooms={"live://2": True}), f"the rooms are {rooms}")
        say("room changed")

    def push(self):
        job, both = self.job, ["absent", "one", self.key_of_two]
        job.PushMsg(comet.PushMsgReq(keys=both, proto=raw((1000, b"keys")), protoOp=1000), timeout=TIMEOUT_S)
        # The second client does not accept this one.
        job.PushMsg(comet.PushMsgReq(keys=both, proto=raw((1001, b"one's")), protoOp=1001), timeout=TIMEOUT_S)
        job.Broadcast(comet.BroadcastReq(protoOp=1000, proto=raw((1000, b"all"))), timeout=TIMEOUT_S)
        self.one.gets((1000, b"keys"), (1001, b"one's"), (1000, b"all"))
        self.two.gets((1000, b"keys"), (1000, b"all"))
        job.Broadcast(comet.BroadcastReq(protoOp=1000, proto=raw((1000, b"paced")), speed=1000), timeout=TIMEOUT_S)
        self.one.gets((1000, b"paced"))
        self.two.gets((1000, b"paced"))
        # Merged by goim's job: up to 20 messages of a room, whatever their operations.
        merged = [(2000 + n, f"merged {n}".encode()) for n in range(20)]
        request = comet.BroadcastRoomReq(roomID="live://2", proto=raw(*merged))
        job.BroadcastRoom(request, timeout=TIMEOUT_S)
        self.one.gets(*merged)
        # Not as Raw: any caller of goim's API may send a message as it is.
        plain = protocol.Proto(ver=1, op=1000, seq=9, body=b"plain")
        job.PushMsg(comet.PushMsgReq(keys=both, proto=plain, protoOp=1000), timeout=TIMEOUT_S)
        self.one.gets((1000, b"plain"))
        self.two.gets((1000, b"plain"))
        say("every push received")

    def push_much(self):
        # Above the 4 MiB that gRPC's libraries take by default.
        keys = [f"{n:050}" for n in range(99_999)] + ["one"]
        request = comet.PushMsgReq(keys=keys, proto=raw((1000, b"large")), protoOp=1000)
        check(request.ByteSize() > 5_000_000, "a large call")
        self.job.PushMsg(request, timeout=TIMEOUT_S)
        self.one.gets((1000, b"large"))
        say("a call of 5 MB taken")

    def refuse_pushes(self):
        some = raw((1000, b"x"))
        refused("no key", lambda: self.job.PushMsg(comet.PushMsgReq(proto=some, protoOp=1000)))
        refused("no proto", lambda: self.job.PushMsg(comet.PushMsgReq(keys=["one"], protoOp=1000)))
        refused("no proto to all", lambda: self.job.Broadcast(comet.BroadcastReq(protoOp=1000)))
        refused("no room", lambda: self.job.BroadcastRoom(comet.BroadcastRoomReq(proto=some)))
        refused("no proto to a room", lambda: self.job.BroadcastRoom(comet.BroadcastRoomReq(roomID="live://2")))
        say("what goim refuses is refused")

    def call_nothing_unasked(self):
        """Logic that names no generation of its store has lost nothing: the sessions are not registered again."""
        methods = ("Connect", "Disconnect", "Heartbeat", "Receive")
        before = self.log.of(*methods)
        self.log.count("RenewOnline", len(self.log.of("RenewOnline")) + 5)
        check(self.log.of(*methods) == before, f"calls that nobody asked for:\n{self.log}")
        say("nothing called that nobody asked for")

    def restart(self):
        """While logic is away connections stay, and it finds them as they were."""
        self.server.stop(None).wait()
        reports = len(self.log.of("RenewOnline"))
        request = comet.PushMsgReq(keys=["one"], proto=raw((1000, b"without logic")), protoOp=1000)
        self.job.PushMsg(request, timeout=TIMEOUT_S)
        self.one.gets((1000, b"without logic"))
        self.server, _ = serve(logic_services.add_LogicServicer_to_server, self.service, self.address)
        self.log.count("RenewOnline", reports + 2)
        check(self.one.online() == 1 + ELSEWHERE, "the count over all comets stays")
        say("logic restarted")

    def log_out(self):
        self.one.connection.close()
        self.log.expect("Disconnect", logic.DisconnectReq(mid=7, key="one", server=SERVER))
        self.socket.close()
        self.log.expect("Disconnect", logic.DisconnectReq(mid=-8, key=self.key_of_two, server=SERVER))
        check(len(self.log.of("Disconnect")) == 2, f"other goodbyes:\n{self.log}")
        check(self.service.sessions == {}, f"sessions stay: {self.service.sessions}")
        self.log.expect("RenewOnline", logic.OnlineReq(server=SERVER))
        rooms = self.job.Rooms(comet.RoomsReq(), timeout=TIMEOUT_S)
        check(rooms == comet.RoomsReply(), f"rooms stay: {rooms}")
        say("logged out")


def token(mid, key, room, accepts):
    return json.dumps({"mid": mid, "key": key, "room_id": room, "platform": "python", "accepts": accepts}).encode()


def host_and_port(address):
    host, port = address.rsplit(":", 1)
    return host, int(port)


def main():
    service = Logic()
    server, address = serve(logic_services.add_LogicServicer_to_server, service)
    scenario = Scenario(server, address, service, meet(address))
    scenario.run()
    scenario.channel.close()
    scenario.server.stop(None)


if __name__ == "__main__":
    try:
        main()
    except (Failed, AssertionError, grpc.RpcError, WebSocketException, OSError, ValueError) as error:
        sys.exit(f"failed: {type(error).__name__}: {error}")
    print("passed: goim's logic and job")
