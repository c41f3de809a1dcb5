/**
 * The demo page: one session of `goim.js`, the push form, and what arrives.
 *
 * Arrivals are collected and drawn once per animation frame, so the page keeps up with far more messages than
 * anybody can read. Latency is known only for what this page pushed to itself: from the request to the arrival.
 */

import { LatencyChart, formatMs } from "/chart.js";
import { GoimClient } from "/goim.js";
import { EventStream, LongPoll } from "/transports.js";

const MAX_ROWS = 200;
const MAX_TEXT = 2_000;
const HEARTBEAT_MS = 5_000;
const TOTALS_EVERY_S = 2;
const PUSH_EXPECTED_MS = 10_000;
/** Above this many messages a second a screen reader is not told of each. */
const MAX_SPOKEN_RATE = 3;

/** What the client connects with, by the choice in the form. */
const TRANSPORTS = { websocket: globalThis.WebSocket, sse: EventStream, poll: LongPoll };

const $ = (id) => document.getElementById(id);

let client = null;
let why = null;
let retryAt = null;
let received = 0;
let receivedBefore = 0;
let seconds = 0;
let paused = false;
let pushing = false;
let frameWanted = false;
let waiting = [];
const chart = new LatencyChart($("chart"), $("latency-summary"), wantFrame);
/** Text of a push -> times at which this page sent it and has not seen it yet. */
const expected = new Map();

start();

function start() {
  $("endpoint").textContent = socketUrl();
  $("login").addEventListener("submit", onSubmit(logIn));
  $("logout").addEventListener("click", logOut);
  $("reconnect").addEventListener("click", () => client?.connect());
  $("change-room").addEventListener("submit", onSubmit(changeRoom));
  $("operations").addEventListener("submit", onSubmit(changeOperations));
  $("push").addEventListener("submit", onSubmit(push));
  $("push").addEventListener("input", showCurl);
  $("target").addEventListener("change", () => fillAddress());
  $("copy").addEventListener("click", copyCurl);
  $("pause").addEventListener("click", togglePause);
  $("clear").addEventListener("click", clearMessages);
  setInterval(tick, 1_000);
  prefill();
  fillAddress();
  refreshTotals();
}

function onSubmit(handle) {
  return (event) => {
    event.preventDefault();
    handle(event);
  };
}

function prefill() {
  const query = new URLSearchParams(location.search);
  for (const id of ["mid", "room", "key", "accepts", "transport", "target", "operation", "text"]) {
    if (query.has(id)) $(id).value = query.get(id);
  }
  if (query.get("auto") === "1") $("login").requestSubmit();
}

// Session

function logIn() {
  client?.close();
  client = new GoimClient({
    url: socketUrl(),
    WebSocket: TRANSPORTS[$("transport").value],
    heartbeat: HEARTBEAT_MS,
    token: {
      mid: Number($("mid").value),
      // Chosen here when the field is empty: the server would not tell which one it chose.
      key: $("key").value.trim() || randomKey(),
      room_id: $("room").value.trim(),
      platform: "web",
      accepts: parseOperations($("accepts").value),
    },
  });
  listen(client);
  why = null;
  showState("connecting", "Connecting");
  showSession();
  fillAddress();
  client.connect();
}

function listen(current) {
  current.on("open", () => showState("connecting", "Logging in"));
  current.on("authenticated", () => {
    why = null;
    showResult("session-result");
    showState("connected", "Connected");
    refreshTotals();
  });
  current.on("message", arrive);
  current.on("online", (count) => showOnline(current.token.room_id ? count : null));
  current.on("latency", (ms) => ($("heartbeat").textContent = formatMs(ms)));
  current.on("disconnect-reason", (reason) => (why = reason));
  current.on("error", (error) => showResult("session-result", "bad", error.message));
  current.on("close", showClose);
}

function showClose({ code, reason, willReconnect, delay }) {
  const told = why ? [why.reason, why.message].filter(Boolean).join(": ") : `${reason || "connection lost"} (${code})`;
  retryAt = willReconnect ? performance.now() + delay : null;
  showOnline(null);
  $("heartbeat").textContent = "–";
  if (willReconnect) showState("reconnecting", "Reconnecting");
  else showState("closed", `Closed: ${why?.reason ?? told}`);
  showResult("session-result", "bad", told);
}

function logOut() {
  client.close();
  client = null;
  showResult("session-result");
  showState("idle", "Not connected");
  showSession();
  $("mid").focus();
}

async function changeRoom() {
  const room = $("new-room").value.trim();
  await ask(() => changeRoomOf(client, room), room ? `Now in ${room}` : "In no room");
  if ($("target").value === "room") fillAddress();
}

async function changeRoomOf(current, room) {
  await current.changeRoom(room);
  // The count of the room before says nothing; the next heartbeat tells that of the new one.
  showOnline(null);
}

async function changeOperations(event) {
  const ops = parseOperations($("ops").value);
  const verb = event.submitter?.value === "unsub" ? "unsub" : "sub";
  await ask(() => client[verb](ops), `${verb === "sub" ? "Receiving" : "No longer receiving"} ${ops.join(", ")}`);
}

async function ask(request, done) {
  try {
    await request();
    showResult("session-result", "good", done);
  } catch (error) {
    showResult("session-result", "bad", error.message);
  }
  showSession();
}

function showSession() {
  $("login-card").hidden = client !== null;
  $("session-card").hidden = client === null;
  $("logout").hidden = client === null;
  const token = client?.token;
  if (!token) return;
  $("session-mid").textContent = token.mid;
  $("session-key").textContent = token.key;
  $("session-room").textContent = token.room_id || "none";
  $("session-accepts").textContent = token.accepts.join(", ") || "none";
}

function showOnline(count) {
  $("online").textContent = count?.toLocaleString() ?? "–";
}

function showState(state, text) {
  if (state !== "reconnecting") retryAt = null;
  $("state").dataset.state = state;
  $("state-text").textContent = text;
  $("reconnect").hidden = !["reconnecting", "closed"].includes(state);
  for (const id of ["change-room-button", "sub", "unsub"]) $(id).disabled = state !== "connected";
  showCountdown();
}

function showCountdown() {
  const left = retryAt === null ? null : Math.max(0, Math.ceil((retryAt - performance.now()) / 1_000));
  $("countdown").textContent = left === null ? "" : ` in ${left} s`;
}

// Push

async function push() {
  const text = $("text").value;
  const started = performance.now();
  const forget = reachesThisPage() ? expect(text, started) : () => {};
  showResult("push-result");
  pushing = true;
  showAddressHint();
  try {
    const response = await fetch(pushPath(), { method: "POST", body: text });
    const { isGood, told } = readAnswer(response, await response.text());
    if (!isGood) forget();
    showResult("push-result", isGood ? "good" : "bad", `${told} · ${formatMs(performance.now() - started)}`);
  } catch (error) {
    forget();
    showResult("push-result", "bad", `the push API did not answer: ${error.message}`);
  } finally {
    pushing = false;
    showAddressHint();
  }
}

/** goim's JSON, or whatever else answers in its place: a refusal, or a proxy. */
function readAnswer({ status }, text) {
  try {
    const { code, message } = JSON.parse(text);
    if (typeof code === "number") return { isGood: code === 0, told: `code ${code} · ${message || "accepted"}` };
  } catch {
    // Shown as it is.
  }
  return { isGood: false, told: `HTTP ${status} · ${text.trim().slice(0, MAX_TEXT) || "no text"}` };
}

/** What the form still needs before it can be pushed; empty when it is complete. */
function missingAddress() {
  const target = $("target").value;
  const address = $("address").value.trim();
  if (target === "room" && !/^.+?:\/\/.+$/.test(address)) {
    return address ? "A room is written as type://room, such as live://1000." : "In no room: say which, such as live://1000.";
  }
  if (target === "keys" && !address) return "Say at least one key.";
  if (target === "mids" && !address) return "Say at least one member id.";
  return "";
}

function showAddressHint() {
  const missing = missingAddress();
  $("address-hint").textContent = missing;
  $("address-hint").hidden = !missing;
  $("send").disabled = pushing || Boolean(missing);
}

function pushPath() {
  const query = new URLSearchParams({ operation: $("operation").value.trim() });
  const target = $("target").value;
  const address = $("address").value.trim();
  if (target === "room") {
    const [, type, room] = /^(?:(.*?):\/\/)?(.*)$/.exec(address);
    query.set("type", type ?? "");
    query.set("room", room);
  } else if (target !== "all") {
    for (const one of address.split(",")) query.append(target, one.trim());
  }
  return `/goim/push/${target}?${query}`;
}

/** Whether the push in the form should come back to this page, as far as the page can know. */
function reachesThisPage() {
  const token = client?.token;
  if (!token || !client.authenticated) return false;
  const target = $("target").value;
  const addresses = $("address").value.split(",").map((one) => one.trim());
  if (target === "room") return addresses[0] === token.room_id;
  if (!token.accepts.includes(Number($("operation").value))) return false;
  return target === "all" || addresses.includes(String(target === "keys" ? token.key : token.mid));
}

function expect(text, at) {
  const times = expected.get(text) ?? [];
  expected.set(text, [...times, at]);
  return () => expectOnly(text, (time) => time !== at);
}

function expectOnly(text, keep) {
  const times = (expected.get(text) ?? []).filter(keep);
  if (times.length > 0) expected.set(text, times);
  else expected.delete(text);
}

function fillAddress() {
  const token = client?.token ?? { room_id: $("room").value, key: $("key").value, mid: $("mid").value };
  const target = $("target").value;
  const names = { room: "Room", keys: "Keys, separated by commas", mids: "Member ids, separated by commas", all: "" };
  $("address-label").hidden = target === "all";
  $("address-name").textContent = names[target];
  $("address").value = { room: token.room_id, keys: token.key, mids: String(token.mid), all: "" }[target];
  showCurl();
}

function showCurl() {
  showAddressHint();
  const quote = (text) => `'${text.replaceAll("'", `'\\''`)}'`;
  $("curl").textContent = `curl --data-raw ${quote($("text").value)} ${quote(location.origin + pushPath())}`;
}

async function copyCurl() {
  try {
    await navigator.clipboard.writeText($("curl").textContent);
    $("copy").textContent = "Copied";
  } catch {
    // Not allowed here, as on plain HTTP to another host: the line is marked, to be copied by hand.
    getSelection().selectAllChildren($("curl"));
    $("copy").textContent = "Marked";
  }
  setTimeout(() => ($("copy").textContent = "Copy"), 1_500);
}

// Arrivals

function arrive({ op, text }) {
  received += 1;
  const latency = takeLatency(text);
  if (latency !== null) chart.add(latency);
  waiting.push({ op, text: text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text, latency, at: new Date() });
  // Frames stop in a hidden tab: what would never be shown is let go.
  if (waiting.length > 2 * MAX_ROWS) waiting = waiting.slice(-MAX_ROWS);
  wantFrame();
}

function takeLatency(text) {
  const times = expected.get(text);
  if (!times) return null;
  const [first] = times;
  expectOnly(text, (time) => time !== first);
  return performance.now() - first;
}

function wantFrame() {
  if (frameWanted) return;
  frameWanted = true;
  requestAnimationFrame(() => {
    frameWanted = false;
    draw();
  });
}

function draw() {
  $("received").textContent = received.toLocaleString();
  if (!paused && waiting.length > 0) {
    const list = $("messages");
    list.prepend(...waiting.slice(-MAX_ROWS).reverse().map(row));
    waiting = [];
    while (list.childElementCount > MAX_ROWS) list.lastElementChild.remove();
    $("empty").hidden = true;
  }
  chart.draw();
}

function row({ op, text, latency, at }) {
  const item = document.createElement("li");
  item.dataset.testid = "message";
  item.dataset.op = op;
  const time = cell("time", "", `${at.toTimeString().slice(0, 8)}.${String(at.getMilliseconds()).padStart(3, "0")}`);
  item.append(time, cell("span", "op", op), cell("span", "body", text));
  item.append(cell("span", "ms", latency === null ? "" : formatMs(latency)));
  return item;
}

function cell(tag, name, text) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  element.textContent = text;
  return element;
}

function togglePause() {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  wantFrame();
}

function clearMessages() {
  waiting = [];
  $("messages").replaceChildren();
  $("empty").hidden = false;
}

// Once a second

function tick() {
  seconds += 1;
  const rate = received - receivedBefore;
  receivedBefore = received;
  $("rate").textContent = rate.toLocaleString();
  $("messages").setAttribute("aria-live", rate > MAX_SPOKEN_RATE ? "off" : "polite");
  showCountdown();
  const oldest = performance.now() - PUSH_EXPECTED_MS;
  for (const text of [...expected.keys()]) expectOnly(text, (time) => time > oldest);
  if (seconds % TOTALS_EVERY_S === 0 && client?.authenticated && !document.hidden) refreshTotals();
}

async function refreshTotals() {
  let total = {};
  try {
    const { code, data } = await (await fetch("/goim/online/total")).json();
    if (code === 0 && data) total = data;
  } catch {
    // Shown as unknown; the state of the connection tells more.
  }
  $("connections").textContent = total.conn_count?.toLocaleString() ?? "–";
  $("addresses").textContent = total.ip_count?.toLocaleString() ?? "–";
}

// Small things

function showResult(id, kind = "", text = "") {
  $(id).dataset.kind = kind;
  $(id).textContent = text;
}

function socketUrl() {
  return `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/sub`;
}

function parseOperations(text) {
  return [...new Set(text.split(/[\s,]+/).filter(Boolean).map(Number))];
}

function randomKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(6));
  return `web-${Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
