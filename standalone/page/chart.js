/** The latencies of the last pushes as bars, with their median and their worst in words. */

const MAX_LATENCIES = 120;

export class LatencyChart {
  #canvas;
  #summary;
  #wantFrame;
  #latencies = [];
  #isStale = true;

  /** `wantFrame` has `draw` called with the next animation frame. */
  constructor(canvas, summary, wantFrame) {
    this.#canvas = canvas;
    this.#summary = summary;
    this.#wantFrame = wantFrame;
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#redraw());
    new ResizeObserver(() => this.#redraw()).observe(canvas);
  }

  /** Takes one more, in milliseconds. It is seen with the next frame. */
  add(latency) {
    this.#latencies.push(latency);
    if (this.#latencies.length > MAX_LATENCIES) this.#latencies.shift();
    this.#isStale = true;
  }

  /** Draws it if anything has changed. */
  draw() {
    if (!this.#isStale) return;
    this.#isStale = false;
    const { width, height } = this.#canvas.getBoundingClientRect();
    const scale = devicePixelRatio || 1;
    this.#canvas.width = Math.round(width * scale);
    this.#canvas.height = Math.round(height * scale);
    const pen = this.#canvas.getContext("2d");
    pen.scale(scale, scale);
    this.#drawBars(pen, width, height);
    if (this.#latencies.length > 0) this.#summarize();
  }

  #redraw() {
    this.#isStale = true;
    this.#wantFrame();
  }

  #drawBars(pen, width, height) {
    const style = getComputedStyle(document.documentElement);
    const color = (name) => style.getPropertyValue(name).trim();
    const top = 18;
    const base = height - 1;
    const highest = Math.max(1, ...this.#latencies);
    pen.fillStyle = color("--line");
    pen.fillRect(0, base, width, 1);
    pen.fillRect(0, top, width, 1);
    pen.fillStyle = color("--muted");
    pen.font = "12px system-ui, sans-serif";
    const scale = this.#latencies.length > 0 ? formatMs(highest) : "Push to this page to measure";
    pen.fillText(scale, 0, top - 6);
    pen.fillStyle = color("--accent");
    const step = width / MAX_LATENCIES;
    this.#latencies.forEach((latency, index) => {
      const tall = Math.max(2, ((base - top) * latency) / highest);
      const left = width - (this.#latencies.length - index) * step;
      pen.fillRect(left + step * 0.15, base - tall, Math.max(1, step * 0.7), tall);
    });
  }

  #summarize() {
    const sorted = this.#latencies.toSorted((a, b) => a - b);
    const at = (share) => formatMs(sorted[Math.floor(share * (sorted.length - 1))]);
    const text = `last ${formatMs(this.#latencies.at(-1))} · median ${at(0.5)} · worst ${at(1)}`;
    this.#summary.textContent = text;
    this.#canvas.setAttribute("aria-label", `Latency of the last ${sorted.length} pushes: ${text}`);
  }
}

export function formatMs(ms) {
  return `${ms < 100 ? ms.toFixed(1) : Math.round(ms)} ms`;
}
