"""goim's comet with logic-stub: `python3 goim_comet.py`, with the package `grpcio`.

Prints `listening <address>` of its Comet service, reads `grpc=<address> http=<address>` of the logic-stub that has it in its
list as `interop`, with the client address 10.0.0.12, and goes through everything that goim's comet and pushers do with
logic. Exits 0, or 1 with what went wrong.
"""

import json
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request

import grpc

from goim_grpc import (
    Log,
    comet,
    comet_services,
    dial,
    eventually,
    goims,
    logic,
    logic_services,
    meet,
    protocol,
    raw,
    refused,
    serve,
)
from goim_steps import DIRECT, SEND, TIMEOUT_S, Failed, check, say

SERVER = "interop"
MINUTE_NS = 60_000_000_000


class Comet(comet_services.CometServicer):
    """goim's comet as its job sees it. There is no other service on its port."""

    def __init__(self):
        self.log = Log()
        self.open = threading.Event()
        self.open.set()

    def PushMsg(self, request, context):
        self.log.add("PushMsg", request)
        return comet.PushMsgReply()

    def Broadcast(self, request, context):
        self.log.add("Broadcast", request)
        return comet.BroadcastReply()

    def BroadcastRoom(self, request, context):
        self.log.add("BroadcastRoom", request)
        self.open.wait(TIMEOUT_S)
        return comet.BroadcastRoomReply()

    def Rooms(self, request, context):
        raise NotImplementedError("logic does not ask for rooms")


class Scenario:
    def __init__(self, server, address, service, addresses):
        self.server, self.address, self.service = server, address, service
        self.log = service.log
        self.http = addresses["http"]
        self.channel = dial(addresses["grpc"])
        self.logic = logic_services.LogicStub(self.channel)

    def run(self):
        self.log_in()
        self.refuse()
        self.renew()
        self.renew_much()
        self.push()
        self.merge()
        self.nodes()
        self.restart()
        self.log_out()

    def log_in(self):
        reply = self.connect({"mid": 7, "key": "one", "room_id": "live://1", "platform": "web", "accepts": [1000, -1, 0]})
        expected = logic.ConnectReply(mid=7, key="one", roomID="live://1", accepts=[1000, -1, 0], heartbeat=8 * MINUTE_NS)
        check(reply == expected, f"Connect was answered by {reply}")
        reply = self.connect({"mid": 7, "key": "", "room_id": "", "platform": "ios", "accepts": []})
        check(len(reply.key) == 36, f"not a key of logic's: {reply.key}")
        self.key = reply.key
        expected = logic.ConnectReply(mid=7, key=self.key, heartbeat=8 * MINUTE_NS)
        check(reply == expected, f"Connect was answered by {reply}")
        heartbeat = self.logic.Heartbeat(logic.HeartbeatReq(mid=7, key="one", server=SERVER), timeout=TIMEOUT_S)
        check(heartbeat == logic.HeartbeatReply(), f"Heartbeat was answered by {heartbeat}")
        # Whoever lives is there, also when logic has forgotten.
        self.logic.Heartbeat(logic.HeartbeatReq(mid=8, key="lost", server=SERVER), timeout=TIMEOUT_S)
        told = logic.ReceiveReq(mid=7, proto=protocol.Proto(ver=1, op=SEND, seq=1, body=b"hello"))
        check(self.logic.Receive(told, timeout=TIMEOUT_S) == logic.ReceiveReply(), "Receive")
        say("logged in")

    def refuse(self):
        request = logic.ConnectReq(server=SERVER, token=b"not a token")
        error = refused("a bad token", lambda: self.logic.Connect(request, timeout=TIMEOUT_S))
        check(error.code() != grpc.StatusCode.UNIMPLEMENTED, f"a bad token: {error}")
        say("refused")

    def renew(self):
        rooms = {"live://1": 2, "live://2": 5, "chat://1": 1}
        self.report(rooms, rooms)
        top = [{"room_id": "2", "count": 5}, {"room_id": "1", "count": 2}]
        self.answers("online/top?type=live&limit=9", top)
        self.answers("online/room?type=live&rooms=1&rooms=3", {"1": 2, "3": 0})
        # Connections and addresses are not in goim's report.
        self.answers("online/total", {"ip_count": 0, "conn_count": 0})
        say("rooms counted")

    def renew_much(self):
        # Above the 4 MiB that gRPC's libraries take by default, in both directions, compressed as goim does.
        rooms = {f"live://{n:040}": 1 for n in range(100_000)}
        check(logic.OnlineReq(server=SERVER, roomCount=rooms).ByteSize() > 5_000_000, "a large report")
        self.report(rooms, rooms)
        self.report({}, {})
        say("a report of 5 MB taken")

    def push(self):
        message = of_job(b"message")
        self.push_to("keys?operation=1000&keys=one&keys=nobody", b"message", told="not online: nobody")
        self.log.expect("PushMsg", comet.PushMsgReq(keys=["one"], proto=message, protoOp=1000))
        self.push_to("keys?operation=1000&keys=lost", b"message")
        self.log.expect("PushMsg", comet.PushMsgReq(keys=["lost"], proto=message, protoOp=1000))
        self.push_to("mids?operation=1000&mids=7", b"to the mid")
        eventually("a push to both keys of the mid", lambda: self.keys_of(b"to the mid") == ["one", self.key])
        self.push_to("room?operation=1000&type=live&room=1", b"message")
        self.log.expect("BroadcastRoom", comet.BroadcastRoomReq(roomID="live://1", proto=message))
        self.push_to("all?operation=1000", b"message")
        self.log.expect("Broadcast", comet.BroadcastReq(protoOp=1000, proto=message))
        self.push_to("all?operation=1000&speed=8", b"message")
        self.log.expect("Broadcast", comet.BroadcastReq(protoOp=1000, proto=message, speed=8))
        answer = self.post("/goim/push/keys?operation=1000&keys=one&report=1", b"reported")
        check(answer["data"]["uncounted"] == 1 and answer["data"]["lost"] == {}, f"a report of {answer}")
        say("every push received")

    def merge(self):
        """What waits for a room while its call is under way comes in one call, as goim's job merges it."""
        self.service.open.clear()
        path = "room?operation=1000&type=live&room=merged"
        self.push_to(path, b"first")
        self.log.expect("BroadcastRoom", comet.BroadcastRoomReq(roomID="live://merged", proto=of_job(b"first")))
        rest = [f"{n}".encode() for n in range(3)]
        for body in rest:
            self.push_to(path, body)
        self.service.open.set()
        merged = raw(*((1000, body) for body in rest))
        self.log.expect("BroadcastRoom", comet.BroadcastRoomReq(roomID="live://merged", proto=merged))
        say("a room's messages merged")

    def nodes(self):
        weighted = self.get("/goim/nodes/weighted?platform=ios")["data"]
        check(weighted["nodes"] == ["10.0.0.12"], f"the nodes are {weighted}")
        backoff = {"max_delay": 300, "base_delay": 3, "factor": 1.8, "jitter": 0.3}
        check({name: round(value, 3) for name, value in weighted["backoff"].items()} == backoff, f"{weighted}")
        request = logic.NodesReq(platform="ios", clientIP="127.0.0.1")
        reply = self.logic.Nodes(request, timeout=TIMEOUT_S)
        for name in ("domain", "tcp_port", "ws_port", "wss_port", "heartbeat", "heartbeat_max"):
            check(getattr(reply, name) == weighted[name], f"{name}: {reply} and {weighted}")
        check(list(reply.nodes) == ["10.0.0.12"], f"the nodes are {reply}")
        expected = logic.Backoff(**backoff)
        check(reply.backoff == expected, f"the back-off is {reply}")
        (instance,) = self.get("/goim/nodes/instances")["data"]
        check(instance["hostname"] == SERVER and instance["addrs"] == [f"grpc://{self.address}"], f"{instance}")
        say("nodes told")

    def restart(self):
        self.server.stop(None).wait()
        path = "keys?operation=1000&keys=one"
        self.push_to(path, b"while away")
        self.server, _ = serve(comet_services.add_CometServicer_to_server, self.service, self.address)
        self.push_to(path, b"after")
        self.log.expect("PushMsg", comet.PushMsgReq(keys=["one"], proto=of_job(b"after"), protoOp=1000))
        check(self.keys_of(b"while away") == ["one"], f"once, before what was pushed later: {self.log}")
        say("restarted, and found again")

    def log_out(self):
        goodbye = logic.DisconnectReq(mid=7, key="one", server=SERVER)
        for has in (True, False):
            reply = self.logic.Disconnect(goodbye, timeout=TIMEOUT_S)
            check(reply == logic.DisconnectReply(has=has), f"Disconnect was answered by {reply}")
        self.push_to("keys?operation=1000&keys=one", b"too late", told="not online: one")
        say("logged out")

    def connect(self, token):
        request = logic.ConnectReq(server=SERVER, cookie="a=b", token=json.dumps(token).encode())
        return self.logic.Connect(request, timeout=TIMEOUT_S)

    def report(self, rooms, everywhere):
        request = logic.OnlineReq(server=SERVER, roomCount=rooms)
        reply = self.logic.RenewOnline(request, compression=grpc.Compression.Gzip, timeout=TIMEOUT_S)
        check(goims(reply) == logic.OnlineReply(allRoomCount=everywhere), f"RenewOnline: {len(reply.allRoomCount)} rooms")

    def keys_of(self, body):
        """To whom a message has been pushed."""
        proto = of_job(body)
        requests = [request for request in self.log.of("PushMsg") if request.proto == proto]
        return sorted((key for request in requests for key in request.keys), key=lambda key: key != "one")

    def push_to(self, path, body, told=""):
        answer = self.post(f"/goim/push/{path}", body)
        check((answer["code"], answer["message"]) == (0, told), f"{path} was answered by {answer}")

    def answers(self, path, data):
        answer = self.get(f"/goim/{path}")
        check(answer["code"] == 0 and answer["data"] == data, f"{path} was answered by {answer}")

    def get(self, path):
        return self.ask(urllib.request.Request(f"http://{self.http}{path}"))

    def post(self, path, body):
        return self.ask(urllib.request.Request(f"http://{self.http}{path}", data=body))

    def ask(self, request):
        with DIRECT.open(request, timeout=TIMEOUT_S) as response:
            return json.load(response)


def of_job(body):
    return raw((1000, body))


def main():
    service = Comet()
    server, address = serve(comet_services.add_CometServicer_to_server, service)
    scenario = Scenario(server, address, service, meet(address))
    scenario.run()
    scenario.channel.close()
    scenario.server.stop(None)


if __name__ == "__main__":
    try:
        main()
    except (Failed, AssertionError, grpc.RpcError, urllib.error.URLError, OSError, ValueError) as error:
        sys.exit(f"failed: {type(error).__name__}: {error}")
    print("passed: goim's comet")
