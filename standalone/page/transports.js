/**
 * Ways to a comet for where no WebSocket gets through: Server-Sent Events and long-poll. Each looks to `GoimClient` like a
 * WebSocket that carries goim frames, and speaks JSON with the server:
 *
 *     new GoimClient({ url: "wss://push.example.com/sub", token, WebSocket: EventStream });
 *
 * What the server keeps for a client that comes back, it gets: a stream that broke goes on where it was, and an answer
 * to a poll that did not arrive is asked for again.
 *
 * @module transports
 */

import { Op, decodeMessage, encodeFrame } from "./goim.js";

/** How often a request that does not come through is made again, and the milliseconds before the first and every next time. */
const ATTEMPTS = 5;
const PAUSE_MS = 500;

/** What both have in common: the side that `GoimClient` sees, and what the client says. */
class Transport {
  onopen = null;
  onmessage = null;
  onclose = null;
  #aborting = new AbortController();
  #session = null;

  /** @param {string} url as of a WebSocket */
  constructor(url) {
    this.endpoint = url.replace(/^ws/, "http");
    queueMicrotask(() => this.onopen?.());
  }

  /** @param {Uint8Array} message goim frames */
  send(message) {
    for (const frame of decodeMessage(message)) {
      if (frame.op === Op.AUTH) this.logIn(new TextDecoder().decode(frame.body), frame.seq);
      else this.#say(frame);
    }
  }

  close() {
    this.#aborting.abort();
    this.disconnect();
  }

  /** Whether it has been closed, by either side. */
  get isClosed() {
    return this.#aborting.signal.aborted;
  }

  /** Notes the session; false if it is another than before, of which nothing is known. */
  enter(session) {
    const isSame = this.#session === null || this.#session === session;
    this.#session = session;
    return isSame;
  }

  /** Takes a proto from the server. */
  take({ ver, op, seq, body, base64 }) {
    if (this.isClosed) return;
    const bytes = base64 === undefined ? body : Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
    const frame = encodeFrame(op, seq, bytes, ver);
    this.onmessage?.({ data: frame.buffer });
    // The last words: a stream would come back by itself.
    if (op === Op.DISCONNECT) this.end(1000, "closed by the server");
  }

  /** The end, of which the server has told nothing more. */
  end(code, reason) {
    if (this.isClosed) return;
    this.close();
    this.onclose?.({ code, reason });
  }

  /** @returns {Promise<Response>} */
  request(query, options = {}) {
    return fetch(`${this.endpoint}?${query}`, { cache: "no-store", ...options, signal: this.#aborting.signal });
  }

  async #say({ op, seq, body }) {
    try {
      const query = new URLSearchParams({ s: this.#session ?? "", op, seq });
      const response = await this.request(query, { method: "POST", body });
      if (!response.ok) this.end(1006, (await response.json()).message);
    } catch (error) {
      this.end(1006, error.message);
    }
  }
}

/** Server-Sent Events, by the browser's own `EventSource`, which comes back by itself. */
export class EventStream extends Transport {
  #source = null;

  logIn(token, seq) {
    this.#source = new EventSource(`${this.endpoint}?${new URLSearchParams({ t: token, seq })}`);
    this.#source.addEventListener("session", ({ data }) => {
      if (!this.enter(JSON.parse(data).session)) this.end(1006, "the session is lost");
    });
    this.#source.onmessage = ({ data }) => this.take(JSON.parse(data));
    this.#source.onerror = () => {
      if (this.#source.readyState === EventSource.CLOSED) this.end(1006, "the stream is refused");
    };
  }

  disconnect() {
    this.#source?.close();
  }
}

/** Long-poll. */
export class LongPoll extends Transport {
  async logIn(token, seq) {
    let query = new URLSearchParams({ s: "", t: token, seq });
    try {
      while (!this.isClosed) {
        const { session, ack, messages } = await this.#ask(query);
        this.enter(session);
        query = new URLSearchParams({ s: session, ack });
        for (const message of messages) this.take(message);
        if (messages.some(({ op }) => op === Op.DISCONNECT)) this.#acknowledge(query);
      }
    } catch (error) {
      this.end(1006, error.message);
    }
  }

  disconnect() {}

  /** Says that the last words have come, so that the server need not hold them any longer. Whether it hears that does not matter. */
  #acknowledge(query) {
    fetch(`${this.endpoint}?${query}`, { cache: "no-store", keepalive: true }).catch(() => {});
  }

  /** One poll, made again while it does not come through: what was answered and did not arrive is not lost. */
  async #ask(query) {
    for (let attempt = 1; ; attempt++) {
      try {
        const response = await this.request(query);
        const answer = await response.json();
        if (response.ok) return answer;
        this.take({ ver: 1, op: Op.DISCONNECT, seq: 0, body: JSON.stringify(answer) });
        throw new Error(answer.message);
      } catch (error) {
        if (this.isClosed || attempt === ATTEMPTS || !(error instanceof TypeError)) throw error;
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      }
    }
  }
}
