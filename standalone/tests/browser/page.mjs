// The demo page in a real browser: `node page.mjs <base-url> <control-dir>`.
//
// Logs in, pushes by room, key, member and to all through the form, changes and leaves its room, changes operations,
// switches to Server-Sent Events and long-poll and does the same there, survives a restart of the server, and fits a phone.
// For the restart it writes the file `restart` into the control directory; whoever runs the server restarts it and writes
// `restarted`. Exits 0, or 1 with what went wrong.
//
// `playwright-core` is found by NODE_PATH or in node_modules beside this file, the browser by CHROMIUM.

import { createRequire } from "node:module";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

const { chromium } = createRequire(import.meta.url)("playwright-core");

/** The longest that any wait may take: rooms merge for a second, online counts travel for up to 15. */
const STEP_MS = 30_000;
const RESTART_MS = 90_000;

const [base, control] = process.argv.slice(2);
if (!base || !control) {
  console.error("usage: node page.mjs <base-url> <control-dir>");
  process.exit(1);
}

const complaints = [];
/** What the console may say while the test has it so. */
let tolerated = null;
let pushes = 0;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking"],
});
try {
  await run();
  if (complaints.length > 0) throw new Error(`the page complained:\n  ${complaints.join("\n  ")}`);
  console.log("passed: the page");
} catch (error) {
  console.error(`failed: ${error.message}`);
  for (const complaint of complaints) console.error(`  ${complaint}`);
  process.exitCode = 1;
} finally {
  await browser.close();
}

async function run() {
  const page = await open({ width: 1280, height: 900 }, base);
  await step("log in", () => logIn(page));
  for (const target of ["room", "keys", "mids", "all"]) {
    await step(`push by ${target} arrives`, () => pushArrives(page, target));
  }
  await step("a push with a bad operation is answered in red", () => badPush(page));
  await step("an answer that is not the push API's is shown as it is", () => foreignAnswers(page));
  await step("change room", () => changeRoom(page));
  await step("leave the room", () => leaveRoom(page));
  await step("sub and unsub", () => subAndUnsub(page));
  await step("a second page is counted and gets what the room gets", () => secondPage(page));
  const others = {};
  for (const transport of ["sse", "poll"]) {
    others[transport] = await step(`switch to ${transport}, and the same again`, () => otherTransport(transport));
  }
  await step("the server restarts, the page comes back", () => restart(page));
  await step("a push arrives in the room of before the restart", () => pushArrives(page, "room"));
  for (const [transport, other] of Object.entries(others)) {
    await step(`the page by ${transport} has come back, too`, () => cameBack(other, transport));
  }
  tolerated = null;
  await step("a newer login with the key ends this session", () => replaced(page, "7001", "page-key"));
  for (const [transport, other] of Object.entries(others)) {
    await step(`a newer login ends the session by ${transport}`, () => replaced(other, "7010", `page-${transport}`));
    await step(`switch from ${transport} to WebSocket`, () => switchTo(other, "websocket"));
  }
  await step("no overflow on a phone", phone);
}

async function step(name, action) {
  let result;
  try {
    result = await action();
  } catch (error) {
    throw new Error(`${name}: ${error.message}`);
  }
  console.log(`ok: ${name}`);
  return result;
}

async function open(viewport, url) {
  const page = await browser.newPage({ viewport });
  page.setDefaultTimeout(STEP_MS);
  page.on("pageerror", (error) => complaints.push(`uncaught: ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error" && !tolerated?.test(message.text())) complaints.push(`console: ${message.text()}`);
  });
  await page.goto(url);
  return page;
}

async function logIn(page) {
  await page.fill("#mid", "7001");
  await page.fill("#room", "live://page");
  await page.fill("#key", "page-key");
  await page.fill("#accepts", "1000,1001");
  await page.click("#connect");
  await inState(page, "connected");
  await hasText(page, "#session-key", "page-key");
  await hasText(page, "#online", "1");
}

async function pushArrives(page, target, operation = "1000") {
  const text = await push(page, target, operation);
  await hasKind(page, "good");
  const message = await arrived(page, text);
  const shown = { operation: await message.locator(".op").innerText(), latency: await message.locator(".ms").innerText() };
  if (shown.operation !== operation) throw new Error(`shown with operation ${shown.operation}, not ${operation}`);
  if (!/^[\d.]+ ms$/.test(shown.latency)) throw new Error(`its latency is shown as "${shown.latency}"`);
}

/** Pushes a text of its own through the form, to the address that the form proposes. */
async function push(page, target, operation) {
  const text = `push ${++pushes} by ${target}, it's ✓`;
  await page.selectOption("#target", target);
  await page.fill("#operation", operation);
  await page.fill("#text", text);
  await page.click("#send");
  return text;
}

async function badPush(page) {
  await page.selectOption("#target", "room");
  await page.fill("#operation", "nonsense");
  await page.click("#send");
  await hasKind(page, "bad");
  const result = await page.innerText("#push-result");
  if (!result.startsWith("code -400")) throw new Error(`the result is "${result}"`);
}

async function foreignAnswers(page) {
  tolerated = /status of 403/;
  await page.fill("#operation", "1000");
  for (const [status, body, told] of [
    [403, "pushes are taken from this machine only\n", "HTTP 403 · pushes are taken from this machine only"],
    [200, "<p>welcome</p>", "HTTP 200 · <p>welcome</p>"],
    [200, "null", "HTTP 200 · null"],
    [200, "", "HTTP 200 · no text"],
  ]) {
    await page.route("**/goim/push/**", (route) => route.fulfill({ status, body }));
    await page.click("#send");
    await page.waitForFunction((text) => document.querySelector("#push-result").textContent.startsWith(text), told).catch(async () => {
      throw new Error(`${status} "${body}" is shown as "${await page.textContent("#push-result")}"`);
    });
    await hasKind(page, "bad");
    await page.unroute("**/goim/push/**");
  }
  tolerated = null;
}

async function leaveRoom(page) {
  await page.selectOption("#target", "room");
  await page.fill("#new-room", "");
  await page.click("#change-room-button");
  await hasText(page, "#session-room", "none");
  await hasText(page, "#online", "–");
  await hasText(page, "#address-hint", "In no room: say which, such as live://1000.");
  if (!(await page.isDisabled("#send"))) throw new Error("a push to no room can be sent");
  await page.fill("#address", "live://other");
  if (await page.isDisabled("#send")) throw new Error("a push to a room cannot be sent");
  await page.fill("#new-room", "live://other");
  await page.click("#change-room-button");
  await hasText(page, "#session-room", "live://other");
  await hasText(page, "#online", "1");
}

async function changeRoom(page) {
  await page.fill("#new-room", "live://other");
  await page.click("#change-room-button");
  await hasText(page, "#session-room", "live://other");
  await hasText(page, "#online", "1");
  await pushArrives(page, "room");
}

async function subAndUnsub(page) {
  await page.fill("#ops", "1002");
  await page.click("#sub");
  await hasText(page, "#session-accepts", "1000, 1001, 1002");
  await pushArrives(page, "keys", "1002");
  await page.click("#unsub");
  await hasText(page, "#session-accepts", "1000, 1001");
  const filtered = await push(page, "keys", "1002");
  await hasKind(page, "good");
  // Pushes to one key keep their order: once the later one is here, the earlier one will not come.
  await pushArrives(page, "keys", "1000");
  if ((await rows(page, filtered).count()) > 0) throw new Error("an operation arrived after unsub");
}

async function secondPage(page) {
  const url = `${base}/?mid=7002&room=${encodeURIComponent("live://other")}&key=page-key-2&auto=1`;
  const second = await open({ width: 800, height: 800 }, url);
  await inState(second, "connected");
  await hasText(page, "#online", "2");
  const text = await push(page, "room", "1000");
  await arrived(page, text);
  const message = await arrived(second, text);
  if ((await message.locator(".ms").innerText()) !== "") throw new Error("a latency is shown for another page's push");
  await second.close();
  await hasText(page, "#online", "1");
}

/** All that a page does, by another way than WebSocket, which it begins with. */
async function otherTransport(transport) {
  const query = new URLSearchParams({ mid: "7010", room: `live://${transport}`, key: `page-${transport}`, auto: "1" });
  const page = await open({ width: 1280, height: 900 }, `${base}/?${query}`);
  await inState(page, "connected");
  await switchTo(page, transport);
  await hasText(page, "#online", "1");
  for (const target of ["room", "keys", "mids", "all"]) await pushArrives(page, target);
  await page.fill("#new-room", `live://${transport}-2`);
  await page.click("#change-room-button");
  await hasText(page, "#session-room", `live://${transport}-2`);
  await pushArrives(page, "room");
  await page.fill("#ops", "1002");
  await page.click("#sub");
  await hasText(page, "#session-accepts", "1000, 1001, 1002");
  await pushArrives(page, "keys", "1002");
  return page;
}

/** Logs out, and in again by the way that is chosen; what the browser then asks for tells whether it is that. */
async function switchTo(page, transport) {
  await page.click("#logout");
  await inState(page, "idle");
  await page.selectOption("#transport", transport);
  const asking =
    transport === "websocket"
      ? page.waitForEvent("websocket").then(() => "websocket")
      : page.waitForRequest((request) => request.url().includes("/sub?")).then((request) => request.resourceType());
  const [kind] = await Promise.all([asking, page.click("#connect")]);
  const wanted = { websocket: "websocket", sse: "eventsource", poll: "fetch" }[transport];
  if (kind !== wanted) throw new Error(`the page asks by ${kind}, not ${wanted}`);
  await inState(page, "connected");
}

async function cameBack(page, transport) {
  await inState(page, "connected", RESTART_MS);
  await hasText(page, "#session-room", `live://${transport}-2`);
  await pushArrives(page, "room");
}

async function restart(page) {
  // Nobody is let in while the server ends, and a session of before the restart is unknown after it.
  tolerated = /net::ERR_|WebSocket connection to|status of (404|503)/;
  rmSync(join(control, "restarted"), { force: true });
  writeFileSync(join(control, "restart"), "");
  await inState(page, "reconnecting");
  const deadline = Date.now() + RESTART_MS;
  while (!existsSync(join(control, "restarted"))) {
    if (Date.now() > deadline) throw new Error("nobody restarted the server");
    await pause(50);
  }
  await inState(page, "connected", RESTART_MS);
  await hasText(page, "#session-room", "live://other");
  await hasText(page, "#online", "1");
}

async function replaced(page, mid, key) {
  const newer = await open({ width: 800, height: 800 }, `${base}/?mid=${mid}&key=${key}&auto=1`);
  await inState(newer, "connected");
  await inState(page, "closed");
  await hasText(page, "#state-text", "Closed: replaced");
  await newer.close();
}

async function phone() {
  const page = await open({ width: 390, height: 844 }, `${base}/?mid=7003&room=${encodeURIComponent("live://phone")}&auto=1`);
  await inState(page, "connected");
  await pushArrives(page, "room");
  await page.fill("#text", "a-long-word-without-any-place-to-break".repeat(12));
  await page.click("#send");
  await arrived(page, "a-long-word");
  const [content, window] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  if (content > window) throw new Error(`the page is ${content} pixels wide in a window of ${window}`);
  const [session, messages] = await Promise.all(["#session-card", "#messages-card"].map((card) => page.locator(card).boundingBox()));
  const gap = messages.y - (session.y + session.height);
  if (gap < 0 || gap > 40) throw new Error(`${gap} pixels are between the session and the messages`);
}

function inState(page, state, timeout = STEP_MS) {
  return page.waitForSelector(`#state[data-state="${state}"]`, { timeout }).catch(async () => {
    throw new Error(`not ${state} within ${timeout} ms; the page says "${await page.innerText("#state")}"`);
  });
}

function hasText(page, selector, text) {
  const same = ([where, wanted]) => document.querySelector(where).textContent === wanted;
  return page.waitForFunction(same, [selector, text]).catch(async () => {
    throw new Error(`${selector} is "${await page.textContent(selector)}", not "${text}"`);
  });
}

function hasKind(page, kind) {
  return page.waitForSelector(`#push-result[data-kind="${kind}"]`).catch(async () => {
    throw new Error(`the push was answered "${await page.textContent("#push-result")}"`);
  });
}

function rows(page, text) {
  return page.locator("#messages li").filter({ hasText: text });
}

async function arrived(page, text) {
  const message = rows(page, text).first();
  await message.waitFor().catch(() => {
    throw new Error(`"${text}" did not arrive`);
  });
  return message;
}
