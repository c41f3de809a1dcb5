// The browser client without a browser: the frame codec by hex vectors and mangled input, the connection over a
// WebSocket that the test plays. Run with `node --test goim.test.mjs`.

import assert from "node:assert/strict";
import { test } from "node:test";
import { FrameError, GoimClient, Op, backoffDelay, decodeMessage, encodeFrame } from "../../page/goim.js";

const VECTORS = [
  { name: "heartbeat", hex: "00000010 0010 0001 00000002 00000001", op: 2, body: "" },
  { name: "heartbeat reply", hex: "00000014 0010 0001 00000003 00000001 00000007", op: 3, body: "00000007" },
  { name: "auth", hex: "00000019 0010 0001 00000007 00000001 7b226d6964223a317d", op: 7, body: "7b226d6964223a317d" },
  { name: "auth reply", hex: "00000010 0010 0001 00000008 00000001", op: 8, body: "" },
];

for (const { name, hex, op, body } of VECTORS) {
  test(`vector: ${name}`, () => {
    assert.equal(toHex(encodeFrame(op, 1, fromHex(body))), hex.replaceAll(" ", ""));
    const [frame, ...others] = decodeMessage(fromHex(hex));
    assert.deepEqual(others, []);
    assert.deepEqual([frame.ver, frame.op, frame.seq, toHex(frame.body)], [1, op, 1, body]);
  });
}

test("several frames in one message, and those of a Raw in its place", () => {
  const raw = encodeFrame(Op.RAW, 0, join(encodeFrame(1000, 0, "a"), encodeFrame(1001, 0, "b")));
  const frames = decodeMessage(join(encodeFrame(3, 1), raw, encodeFrame(1002, 0, "c")));
  assert.deepEqual(
    frames.map(({ op, body }) => [op, toHex(body)]),
    [[3, ""], [1000, "61"], [1001, "62"], [1002, "63"]],
  );
  assert.deepEqual(decodeMessage(encodeFrame(Op.RAW, 0)), []);
  assert.deepEqual(decodeMessage(new Uint8Array(0)), []);
});

test("a body is UTF-8, and a view at an offset decodes like its copy", () => {
  const frame = encodeFrame(1000, 0, "grüße ✓");
  const shifted = join(new Uint8Array(3), frame).subarray(3);
  assert.equal(new TextDecoder().decode(decodeMessage(shifted)[0].body), "grüße ✓");
});

const BAD = {
  "less than a header": "00000010 0010 0001 00000002 000000",
  "packLen below 16": "0000000f 0010 0001 00000002 00000001",
  "packLen 0": "00000000 0010 0001 00000002 00000001",
  "packLen negative": "ffffffff 0010 0001 00000002 00000001",
  "packLen the lowest": "80000000 0010 0001 00000002 00000001",
  "packLen above the message": "00000011 0010 0001 00000002 00000001",
  "packLen the highest": "7fffffff 0010 0001 00000002 00000001",
  "packLen below the message": "00000010 0010 0001 00000002 00000001 00",
  "headerLen 15": "00000010 000f 0001 00000002 00000001",
  "headerLen negative": "00000010 fff0 0001 00000002 00000001",
  "an inner frame that is longer than its Raw": "00000020 0010 0001 00000009 00000000 00000011 0010 0001 000003e8 00000000",
  "a cut inner header": "00000014 0010 0001 00000009 00000000 00000010",
  "a Raw inside of a Raw": "00000020 0010 0001 00000009 00000000 00000010 0010 0001 00000009 00000000",
};

for (const [name, hex] of Object.entries(BAD)) {
  test(`bad: ${name}`, () => assert.throws(() => decodeMessage(fromHex(hex)), FrameError));
}

test("a frame above the limit is refused, one at the limit is not", () => {
  assert.equal(decodeMessage(encodeFrame(1000, 0, "abcd"), 20).length, 1);
  assert.throws(() => decodeMessage(encodeFrame(1000, 0, "abcde"), 20), FrameError);
});

test("mangled and random messages give frames or a FrameError, nothing else", () => {
  const random = generator(7);
  const seed = join(encodeFrame(3, 1, "abcd"), encodeFrame(Op.RAW, 0, join(encodeFrame(1000, 0, "a"), encodeFrame(5, 0))));
  const outcomes = { frames: 0, refused: 0 };
  for (let round = 0; round < 20_000; round++) {
    const message = round % 2 ? mangle(seed, random) : randomBytes(random);
    try {
      const held = decodeMessage(message).reduce((sum, { body }) => sum + 16 + body.length, 0);
      assert.ok(held <= message.length, "frames hold more bytes than their message");
      outcomes.frames++;
    } catch (error) {
      assert.ok(error instanceof FrameError, `${error.stack} for ${toHex(message)}`);
      outcomes.refused++;
    }
  }
  assert.ok(outcomes.frames > 100 && outcomes.refused > 100, JSON.stringify(outcomes));
});

test("the back-off stays between 0 and its bound", () => {
  for (let attempt = 0; attempt < 2_000; attempt++) {
    const delay = backoffDelay(attempt);
    assert.ok(delay >= 0 && delay <= Math.min(30_000, 1_000 * 1.8 ** attempt), `${delay} at ${attempt}`);
  }
});

test("logs in, beats, answers requests and delivers pushes behind the login", () => {
  const { client, events, socket } = connect();
  assert.deepEqual(socket.take(), [[Op.AUTH, '{"mid":1,"room_id":"live://1","accepts":[1000]}']]);
  socket.deliver(encodeFrame(1000, 0, "too early"));
  socket.deliver(join(encodeFrame(Op.AUTH_REPLY, 1), encodeFrame(1000, 0, "first")));
  assert.deepEqual(socket.take(), [[Op.HEARTBEAT, ""]]);
  assert.deepEqual(names(events), ["open", "authenticated", "message"]);
  assert.equal(events[2].detail.text, "first");
  client.close();
});

test("requests resolve by their seq; room and operations are kept for the next connection", async () => {
  const { client, events, socket } = await connected();
  socket.deliver(encodeFrame(Op.HEARTBEAT_REPLY, 2, fromHex("00000007")));
  const done = [client.changeRoom("live://2"), client.sub([1001, 1000]), client.unsub([1000]), client.send(77, "x"), client.send(4)];
  const sent = socket.take();
  assert.deepEqual(sent, [[12, "live://2"], [14, "1001,1000"], [16, "1000"], [77, "x"], [4, ""]]);
  for (const [op, seq] of [[4, 7], [77, 6], [15, 4], [17, 5], [13, 3]]) socket.deliver(encodeFrame(op, seq));
  await Promise.all(done);
  assert.deepEqual([client.token.room_id, client.token.accepts.sort()], ["live://2", [1001]]);
  assert.equal(events.find(({ name }) => name === "online").detail, 7);
  assert.ok(!names(events).includes("message"), "a reply came as a message");
  client.close();
  await assert.rejects(client.send(4), /not connected/);
});

for (const [name, data] of [["a bad frame", new Uint8Array(15)], ["a text message", "hello"]]) {
  test(`${name} emits an error, ends the connection and is retried`, async () => {
    const { client, events, socket } = await connected();
    const lost = client.changeRoom("live://2");
    socket.deliver(data);
    await assert.rejects(lost, /the connection was lost/);
    assert.deepEqual(socket.closedWith, [4902, "bad frame"]);
    assert.deepEqual(names(events).slice(-2), ["error", "close"]);
    assert.equal(events.at(-1).detail.willReconnect, true);
    client.close();
  });
}

for (const [reason, willReconnect] of [["replaced", false], ["kicked", false], ["auth_refused", false], ["going_away", true]]) {
  test(`after the reason ${reason} it ${willReconnect ? "reconnects" : "stays away"}`, async () => {
    const { client, events, socket } = await connected();
    socket.deliver(encodeFrame(Op.DISCONNECT, 0, JSON.stringify({ reason, message: "why" })));
    assert.deepEqual(events.at(-1), { name: "disconnect-reason", detail: { reason, message: "why" } });
    socket.onclose({ code: 1000, reason: "" });
    assert.equal(events.at(-1).detail.willReconnect, willReconnect);
    client.close();
  });
}

test("what the server says of coming back wins over the reason", async () => {
  const told = async (words) => {
    const { client, events, socket } = await connected();
    socket.deliver(encodeFrame(Op.DISCONNECT, 0, JSON.stringify({ message: "why", ...words })));
    const why = events.at(-1).detail;
    socket.onclose({ code: 1000, reason: "" });
    const { willReconnect, delay } = events.at(-1).detail;
    client.close();
    return { why, willReconnect, delay };
  };
  const nodes = ["b.example.com"];
  const advised = await told({ reason: "going_away", reconnect: true, delay_ms: 123_456, nodes });
  assert.deepEqual(advised.why, { reason: "going_away", message: "why", reconnect: true, delay: 123_456, nodes });
  assert.deepEqual([advised.willReconnect, advised.delay], [true, 123_456]);
  assert.equal((await told({ reason: "kicked", reconnect: true, delay_ms: 5 })).delay, 5);
  assert.equal((await told({ reason: "going_away", reconnect: false })).willReconnect, false);
  for (const [delay_ms, expected] of [["soon", 0], [-1, 0], [1e12, 86_400_000], [null, 0]]) {
    assert.equal((await told({ reason: "going_away", reconnect: true, delay_ms, nodes: 7 })).delay, expected);
  }
});

test("a disconnect without JSON, with null and with bytes that are no UTF-8 is a reason all the same", async () => {
  const { client, events, socket } = await connected();
  for (const body of ["bye", "null", fromHex("ff00"), ""]) {
    socket.deliver(encodeFrame(Op.DISCONNECT, 0, body));
    assert.equal(events.at(-1).detail.reason, "unknown");
  }
  client.close();
});

test("a heartbeat that is not answered ends the connection, and a new one is made", async () => {
  const { client, events, socket } = await connected({ timeout: 20, baseDelay: 1 });
  const closed = await new Promise((resolve) => client.on("close", resolve));
  assert.deepEqual([closed.code, closed.reason, closed.willReconnect], [4900, "no answer to a heartbeat", true]);
  assert.equal(socket.closedWith[0], 4900);
  while (PlayedSocket.last === socket) await new Promise((resolve) => setTimeout(resolve, 1));
  PlayedSocket.last.onopen();
  assert.deepEqual(PlayedSocket.last.take().map(([op]) => op), [Op.AUTH]);
  assert.deepEqual(names(events).slice(-2), ["close", "open"]);
  client.close();
});

test("an Auth that is not answered ends the connection with a code that no server sends", async () => {
  const { client, socket } = connect({ timeout: 20 });
  const closed = await new Promise((resolve) => client.on("close", resolve));
  assert.deepEqual([closed.code, closed.reason, closed.willReconnect], [4901, "no answer to Auth", true]);
  assert.equal(socket.closedWith[0], 4901);
  client.close();
});

test("a listener that throws does not disturb the connection", async (t) => {
  const caught = t.mock.method(globalThis, "queueMicrotask", () => {});
  const { client, events, socket } = await connected();
  client.on("message", () => {
    throw new Error("the listener's own");
  });
  socket.deliver(encodeFrame(1000, 0, "a"));
  socket.deliver(encodeFrame(1000, 0, "b"));
  assert.equal(names(events).filter((name) => name === "message").length, 2);
  assert.equal(caught.mock.callCount(), 2);
  client.close();
});

class PlayedSocket {
  static last = null;
  sent = [];
  closedWith = null;

  constructor(url) {
    this.url = url;
    PlayedSocket.last = this;
  }

  send(bytes) {
    this.sent.push(...decodeMessage(bytes).map(({ op, body }) => [op, new TextDecoder().decode(body)]));
  }

  close(...how) {
    this.closedWith = how;
  }

  take() {
    return this.sent.splice(0);
  }

  deliver(data) {
    const message = data instanceof Uint8Array ? data.buffer.slice(data.byteOffset, data.byteOffset + data.length) : data;
    this.onmessage?.({ data: message });
  }
}

function connect(options = {}) {
  const token = { mid: 1, room_id: "live://1", accepts: [1000] };
  const client = new GoimClient({ url: "ws://host/sub", token, WebSocket: PlayedSocket, ...options });
  const events = [];
  for (const name of ["open", "authenticated", "message", "online", "disconnect-reason", "close", "error"]) {
    client.on(name, (detail) => events.push({ name, detail }));
  }
  client.connect();
  PlayedSocket.last.onopen();
  return { client, events, socket: PlayedSocket.last };
}

async function connected(options) {
  const session = connect(options);
  session.socket.deliver(encodeFrame(Op.AUTH_REPLY, 1));
  assert.ok(session.client.authenticated);
  session.socket.take();
  return session;
}

function names(events) {
  return events.map(({ name }) => name);
}

function fromHex(hex) {
  return Uint8Array.from(hex.replaceAll(" ", "").match(/../g) ?? [], (byte) => parseInt(byte, 16));
}

function toHex(bytes) {
  return Buffer.from(bytes).toString("hex");
}

function join(...parts) {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

/** Numbers from 0 to n - 1 that are the same in every run. */
function generator(state) {
  return (n) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return (state >>> 8) % n;
  };
}

function mangle(seed, random) {
  const message = seed.slice(0, random(4) ? seed.length : random(seed.length + 1));
  for (let hits = random(3); hits > 0 && message.length > 0; hits--) message[random(message.length)] = random(256);
  return message;
}

function randomBytes(random) {
  return Uint8Array.from({ length: random(64) }, () => random(256));
}
