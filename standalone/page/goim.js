/**
 * A goim client for browsers: one file, no dependency. `transports.js` beside it is for where no WebSocket gets through.
 *
 *     import { GoimClient } from "./goim.js";
 *
 *     const client = new GoimClient({
 *       url: "wss://push.example.com/sub",
 *       token: { mid: 1, key: "", room_id: "live://1000", platform: "web", accepts: [1000] },
 *     });
 *     client.on("message", ({ op, text }) => console.log(op, text));
 *     client.on("disconnect-reason", ({ reason, message }) => console.log(reason, message));
 *     client.on("close", ({ code, reason, willReconnect, delay }) => console.log(code, reason, willReconnect, delay));
 *     client.connect();
 *
 * It comes back by itself after every end but these: `close()`, and the reasons `replaced`, `kicked` and `auth_refused`. When the
 * server says whether and when to come back, it does as it is told.
 *
 * It speaks binary WebSocket messages that carry goim frames: packLen i32, headerLen i16 (16), ver i16, op i32,
 * seq i32, body, all big-endian. Nothing that the network delivers makes it throw: a bad frame becomes an `error`
 * event and ends that connection.
 *
 * @module goim
 */

/** Operations of the protocol, whose numbers are below 18. Applications choose theirs from 18 on. */
export const Op = Object.freeze({
  HEARTBEAT: 2,
  HEARTBEAT_REPLY: 3,
  SEND: 4,
  SEND_REPLY: 5,
  DISCONNECT: 6,
  AUTH: 7,
  AUTH_REPLY: 8,
  RAW: 9,
  CHANGE_ROOM: 12,
  SUB: 14,
  UNSUB: 16,
});

/** Bytes of a frame's header. */
export const HEADER_LEN = 16;

/** Close codes of this client, apart from those of the server, which are 4001 to 4005. */
const CLOSE_NO_HEARTBEAT = 4900;
const CLOSE_NO_AUTH = 4901;
const CLOSE_BAD_FRAME = 4902;

/** The longest time that a server can have this client wait before it comes back: a day. */
const MAX_ADVISED_DELAY = 86_400_000;

/**
 * Options with their defaults; all times are milliseconds.
 *
 * - `heartbeat`: the longest time between two heartbeats; each wait is 80 to 100 % of it, at random.
 * - `timeout`: how long a reply (to Auth, a heartbeat or a request) may take.
 * - `baseDelay`, `factor`, `maxDelay`: before attempt n the client waits a random time between 0 and
 *   `min(maxDelay, baseDelay * factor ** n)`.
 * - `stableAfter`: a connection that was authenticated for this long starts the back-off anew when it is lost.
 * - `finalReasons`: reasons of a disconnect (operation 6) after which the client does not reconnect.
 * - `maxFrame`: the largest frame accepted, in bytes.
 * - `WebSocket`: the class to connect with: the browser's own, or one of `transports.js`.
 */
export const DEFAULTS = Object.freeze({
  heartbeat: 30_000,
  timeout: 10_000,
  baseDelay: 1_000,
  factor: 1.8,
  maxDelay: 30_000,
  stableAfter: 5_000,
  finalReasons: Object.freeze(["replaced", "kicked", "auth_refused"]),
  maxFrame: 16 * 1024 * 1024,
});

/** A frame or message that breaks the protocol. The peer is at fault. */
export class FrameError extends Error {
  name = "FrameError";
}

/** A request that got no reply: not connected, connection lost, or out of time. */
export class RequestError extends Error {
  name = "RequestError";
}

/**
 * @typedef {object} Frame
 * @property {number} ver
 * @property {number} op
 * @property {number} seq
 * @property {Uint8Array} body A view into the message, not a copy.
 */

/**
 * Encodes one frame.
 *
 * @param {number} op
 * @param {number} seq
 * @param {Uint8Array | string} [body] Text is encoded as UTF-8.
 * @param {number} [ver]
 * @returns {Uint8Array}
 */
export function encodeFrame(op, seq, body = new Uint8Array(0), ver = 1) {
  const bytes = typeof body === "string" ? new TextEncoder().encode(body) : body;
  const frame = new Uint8Array(HEADER_LEN + bytes.length);
  const view = new DataView(frame.buffer);
  view.setInt32(0, frame.length);
  view.setInt16(4, HEADER_LEN);
  view.setInt16(6, ver);
  view.setInt32(8, op);
  view.setInt32(12, seq);
  frame.set(bytes, HEADER_LEN);
  return frame;
}

/**
 * All frames of one message, those inside of a Raw (operation 9) in its place.
 *
 * @param {ArrayBuffer | Uint8Array} message
 * @param {number} [maxFrame] Largest frame accepted, in bytes.
 * @returns {Frame[]}
 * @throws {FrameError} when a length does not fit; then no frame of the message counts.
 */
export function decodeMessage(message, maxFrame = DEFAULTS.maxFrame) {
  const bytes = message instanceof Uint8Array ? message : new Uint8Array(message);
  const frames = [];
  for (const frame of splitFrames(bytes, maxFrame)) {
    if (frame.op !== Op.RAW) {
      frames.push(frame);
      continue;
    }
    for (const inner of splitFrames(frame.body, maxFrame)) {
      if (inner.op === Op.RAW) throw new FrameError("a Raw frame inside of a Raw frame");
      frames.push(inner);
    }
  }
  return frames;
}

/**
 * The time to wait before an attempt to connect: exponential with full jitter.
 *
 * @param {number} attempt 0 for the first after a connection was lost.
 * @param {{baseDelay: number, factor: number, maxDelay: number}} [options]
 * @returns {number} milliseconds
 */
export function backoffDelay(attempt, options = DEFAULTS) {
  return Math.random() * Math.min(options.maxDelay, options.baseDelay * options.factor ** attempt);
}

/**
 * @typedef {object} Token What comet hands to logic to tell who connects.
 * @property {number} mid
 * @property {string} [key] Empty: the server chooses one.
 * @property {string} [room_id] `type://room`; empty: no room.
 * @property {string} [platform]
 * @property {number[]} [accepts] Operations that this client wants to receive.
 */

/**
 * A connection that keeps itself up.
 *
 * Events, by {@link GoimClient#on}:
 *
 * - `open` (): the WebSocket is open, Auth is sent
 * - `authenticated` (): logged in; messages arrive from here on
 * - `message` ({op, body: Uint8Array, text: string}): a push
 * - `online` (number): how many are in this connection's room, from a heartbeat's reply
 * - `latency` (number): milliseconds from a heartbeat to its reply
 * - `disconnect-reason` ({reason, message}): why the server is about to close this connection. Where it says whether to come
 *   back, also reconnect: boolean, and if so delay, in milliseconds, and nodes: names of other servers, for who knows them
 * - `close` ({code, reason, willReconnect, delay}): the connection has ended; delay is in milliseconds. Codes of this
 *   client itself: 4900 a heartbeat was not answered, 4901 Auth was not, 4902 a bad frame came
 * - `error` (Error): a frame that breaks the protocol, or a token or WebSocket that could not be made
 */
export class GoimClient {
  #options;
  #listeners = new Map();
  #socket = null;
  #pending = new Map();
  #seq = 0;
  #attempt = 0;
  #authenticatedAt = null;
  #final = null;
  #advisedDelay = null;
  #wanted = false;
  #heartbeatTimer = null;
  #reconnectTimer = null;

  /**
   * @param {object} options `url` and `token` are needed; {@link DEFAULTS} has the others.
   * @param {string} options.url `ws://host/sub` or `wss://host/sub`
   * @param {Token | string | (() => Token | string | Promise<Token | string>)} options.token An object is kept up
   *   to date with room and operations, so that a new connection comes back to where the lost one was. A function
   *   is called for each connection.
   */
  constructor(options) {
    this.#options = { WebSocket: globalThis.WebSocket, ...DEFAULTS, ...options };
    const { token } = this.#options;
    if (typeof token === "object") this.#options.token = { ...token, accepts: [...(token.accepts ?? [])] };
  }

  /** Whether pushes arrive and requests can be sent. */
  get authenticated() {
    return this.#authenticatedAt !== null;
  }

  /** A copy of the token object in its present state; null when the token is text or a function. */
  get token() {
    const { token } = this.#options;
    return typeof token === "object" ? { ...token, accepts: [...token.accepts] } : null;
  }

  /**
   * @param {string} event
   * @param {(detail: any) => void} listener
   * @returns {() => void} takes the listener off again
   */
  on(event, listener) {
    if (!this.#listeners.has(event)) this.#listeners.set(event, new Set());
    this.#listeners.get(event).add(listener);
    return () => this.#listeners.get(event).delete(listener);
  }

  /** Connects, at once also when the client waits for its next attempt. Does nothing while there is a connection. */
  connect() {
    if (!this.#wanted) this.#attempt = 0;
    this.#wanted = true;
    this.#final = null;
    clearTimeout(this.#reconnectTimer);
    if (!this.#socket) this.#open();
  }

  /** Ends the connection; the client does not come back until `connect()`. */
  close(code = 1000, reason = "") {
    this.#wanted = false;
    clearTimeout(this.#reconnectTimer);
    if (this.#socket) this.#drop(code, reason);
  }

  /**
   * Sends an application's operation.
   *
   * @param {number} op
   * @param {Uint8Array | string} [body]
   * @returns {Promise<Uint8Array>} the reply's body
   */
  send(op, body) {
    if (!this.authenticated) return Promise.reject(new RequestError("not connected"));
    return this.#request(op, body);
  }

  /**
   * @param {string} room `type://room`; empty leaves the room.
   * @returns {Promise<void>}
   */
  async changeRoom(room) {
    await this.send(Op.CHANGE_ROOM, room);
    this.#remember((token) => ({ ...token, room_id: room }));
  }

  /**
   * @param {number[]} ops Operations to receive from now on.
   * @returns {Promise<void>}
   */
  async sub(ops) {
    await this.send(Op.SUB, ops.join(","));
    this.#remember((token) => ({ ...token, accepts: [...new Set([...token.accepts, ...ops])] }));
  }

  /**
   * @param {number[]} ops Operations not to receive any more.
   * @returns {Promise<void>}
   */
  async unsub(ops) {
    await this.send(Op.UNSUB, ops.join(","));
    this.#remember((token) => ({ ...token, accepts: token.accepts.filter((op) => !ops.includes(op)) }));
  }

  #remember(change) {
    if (typeof this.#options.token === "object") this.#options.token = change(this.#options.token);
  }

  #emit(event, detail) {
    for (const listener of this.#listeners.get(event) ?? []) {
      try {
        listener(detail);
      } catch (error) {
        // A listener's fault is reported like any uncaught error and does not disturb the connection.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }

  #open() {
    let socket;
    try {
      socket = new this.#options.WebSocket(this.#options.url);
    } catch (error) {
      this.#emit("error", error);
      this.#closed(1006, "the WebSocket could not be made");
      return;
    }
    this.#socket = socket;
    socket.binaryType = "arraybuffer";
    socket.onopen = () => this.#authenticate(socket);
    socket.onmessage = (event) => this.#receive(socket, event.data);
    socket.onclose = (event) => this.#closed(event.code, event.reason);
  }

  async #authenticate(socket) {
    this.#emit("open");
    try {
      const { token } = this.#options;
      const value = typeof token === "function" ? await token() : token;
      if (socket !== this.#socket) return;
      await this.#request(Op.AUTH, typeof value === "string" ? value : JSON.stringify(value));
    } catch (error) {
      if (socket !== this.#socket) return;
      this.#emit("error", error);
      this.#drop(CLOSE_NO_AUTH, "no answer to Auth");
    }
  }

  #online() {
    this.#authenticatedAt = performance.now();
    this.#emit("authenticated");
    if (this.authenticated) this.#heartbeat(this.#socket);
  }

  async #heartbeat(socket) {
    const started = performance.now();
    try {
      const body = await this.#request(Op.HEARTBEAT);
      if (socket !== this.#socket) return;
      this.#emit("latency", performance.now() - started);
      if (body.length >= 4) this.#emit("online", new DataView(body.buffer, body.byteOffset).getInt32(0));
    } catch {
      if (socket === this.#socket) this.#drop(CLOSE_NO_HEARTBEAT, "no answer to a heartbeat");
    }
    if (socket !== this.#socket) return;
    const wait = this.#options.heartbeat * (0.8 + 0.2 * Math.random());
    this.#heartbeatTimer = setTimeout(() => this.#heartbeat(socket), wait);
  }

  #request(op, body) {
    this.#seq = (this.#seq % 0x7fffffff) + 1;
    const seq = this.#seq;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(seq);
        reject(new RequestError(`no reply to operation ${op} within ${this.#options.timeout} ms`));
      }, this.#options.timeout);
      this.#pending.set(seq, { op, resolve, reject, timer });
      this.#socket.send(encodeFrame(op, seq, body));
    });
  }

  #receive(socket, data) {
    try {
      if (!(data instanceof ArrayBuffer)) throw new FrameError("a text message, where binary is spoken");
      const frames = decodeMessage(data, this.#options.maxFrame);
      for (const frame of frames) if (socket === this.#socket) this.#handle(frame);
    } catch (error) {
      this.#emit("error", error);
      if (socket === this.#socket) this.#drop(CLOSE_BAD_FRAME, "bad frame");
    }
  }

  #handle(frame) {
    const request = this.#pending.get(frame.seq);
    if (request && repliesTo(request.op, frame.op)) {
      this.#pending.delete(frame.seq);
      clearTimeout(request.timer);
      request.resolve(frame.body);
      // Not left to the promise: pushes in the same message belong behind `authenticated`.
      if (request.op === Op.AUTH) this.#online();
    } else if (frame.op === Op.DISCONNECT) {
      const why = parseReason(frame.body);
      const isFinal = why.reconnect === undefined ? this.#options.finalReasons.includes(why.reason) : !why.reconnect;
      if (isFinal) this.#final = why.reason;
      this.#advisedDelay = why.delay ?? null;
      this.#emit("disconnect-reason", why);
    } else if (this.authenticated && !isReplyOnly(frame.op)) {
      this.#emit("message", toMessage(frame));
    }
  }

  /** Ends the connection without waiting for the other side, which may be gone. */
  #drop(code, reason) {
    const socket = this.#socket;
    socket.close(code, reason);
    socket.onopen = socket.onmessage = socket.onclose = null;
    this.#closed(code, reason);
  }

  #closed(code, reason) {
    this.#socket = null;
    clearTimeout(this.#heartbeatTimer);
    const { stableAfter } = this.#options;
    if (this.authenticated && performance.now() - this.#authenticatedAt >= stableAfter) this.#attempt = 0;
    this.#authenticatedAt = null;
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer);
      reject(new RequestError("the connection was lost"));
    }
    this.#pending.clear();
    const willReconnect = this.#wanted && this.#final === null;
    const delay = willReconnect ? (this.#advisedDelay ?? backoffDelay(this.#attempt++, this.#options)) : 0;
    this.#advisedDelay = null;
    if (willReconnect) this.#reconnectTimer = setTimeout(() => this.#open(), delay);
    else this.#wanted = false;
    this.#emit("close", { code, reason, willReconnect, delay });
  }
}

/** Whether `op` is how a server answers the request `asked`: protocol operations by the next number, others by their own. */
function repliesTo(asked, op) {
  if (asked === Op.SEND) return op === Op.SEND || op === Op.SEND_REPLY;
  const own = [Op.HEARTBEAT, Op.AUTH, Op.CHANGE_ROOM, Op.SUB, Op.UNSUB].includes(asked);
  return op === (own ? asked + 1 : asked);
}

/** Operations that are replies and nothing else: one that nobody waits for any more is no message. */
function isReplyOnly(op) {
  return [Op.HEARTBEAT, Op.AUTH, Op.CHANGE_ROOM, Op.SUB, Op.UNSUB].includes(op - 1);
}

function* splitFrames(bytes, maxFrame) {
  let offset = 0;
  while (offset < bytes.length) {
    const left = bytes.length - offset;
    if (left < HEADER_LEN) throw new FrameError(`${left} bytes where a header of ${HEADER_LEN} belongs`);
    const view = new DataView(bytes.buffer, bytes.byteOffset + offset, HEADER_LEN);
    const packLen = view.getInt32(0);
    const headerLen = view.getInt16(4);
    if (headerLen !== HEADER_LEN) throw new FrameError(`headerLen ${headerLen}, not ${HEADER_LEN}`);
    if (packLen < HEADER_LEN || packLen > left) throw new FrameError(`packLen ${packLen} of ${left} bytes`);
    if (packLen > maxFrame) throw new FrameError(`packLen ${packLen} is above ${maxFrame}`);
    const body = bytes.subarray(offset + HEADER_LEN, offset + packLen);
    yield { ver: view.getInt16(6), op: view.getInt32(8), seq: view.getInt32(12), body };
    offset += packLen;
  }
}

const utf8 = new TextDecoder();

function toMessage({ op, body }) {
  let text;
  return {
    op,
    body,
    /** The body as UTF-8, decoded when it is first asked for. */
    get text() {
      return (text ??= utf8.decode(body));
    },
  };
}

function parseReason(body) {
  const text = utf8.decode(body);
  try {
    const { reason, message, reconnect, delay_ms, nodes } = JSON.parse(text);
    const why = { reason: String(reason ?? "unknown"), message: String(message ?? "") };
    if (typeof reconnect !== "boolean") return why;
    if (!reconnect) return { ...why, reconnect };
    const delay = Math.min(Math.max(Number(delay_ms) || 0, 0), MAX_ADVISED_DELAY);
    return { ...why, reconnect, delay, nodes: Array.isArray(nodes) ? nodes.map(String) : [] };
  } catch {
    return { reason: "unknown", message: text };
  }
}
