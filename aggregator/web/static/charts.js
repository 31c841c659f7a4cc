// One small chart: a line for each cluster of a region over the last two hours.
/* global uPlot */
import { formatValue } from "./format.js";

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
// How the clusters of a region are told apart; colour is for state alone. See .legend in style.css.
export const DASHES = [[], [6, 3], [2, 3], [10, 3, 2, 3]];
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hour12: false });
const crosshair = () => uPlot.sync("fleet");

export const summaryOf = (values, unit) => {
  const known = values.filter((value) => value !== null);
  if (known.length === 0) return "no data in the last two hours";
  const last = known.at(-1);
  const before = known[Math.floor(known.length / 2)];
  const change = before === 0 ? 0 : (last - before) / Math.abs(before);
  const trend = Math.abs(change) < 0.1 ? "steady" : change > 0 ? "rising" : "falling";
  const show = (value) => formatValue(value, unit);
  return `min ${show(Math.min(...known))}, max ${show(Math.max(...known))}, last ${show(last)}, ${trend}`;
};

export class Chart {
  constructor(figure, signal) {
    this.figure = figure;
    this.signal = signal;
    this.names = "";
    this.plot = null;
  }

  // columns: times in s, then the values of each series; top is shared by all regions.
  draw(times, series, top) {
    const holder = this.figure.querySelector(".plot");
    const data = [times, ...series.map((one) => one.values)];
    const names = series.map((one) => one.name).join("\n");
    const width = Math.max(120, holder.clientWidth);
    if (this.plot === null || this.names !== names || this.theme !== color("--ink")) {
      this.plot?.destroy();
      this.names = names;
      this.theme = color("--ink");
      this.top = top;
      this.plot = new uPlot(this.options(series, width), data, holder);
    } else {
      this.top = top;
      this.plot.setData(data);
    }
    this.figure.classList.toggle("empty", series.length === 0);
    this.describe(series);
  }

  resize() {
    const holder = this.figure.querySelector(".plot");
    this.plot?.setSize({ width: Math.max(120, holder.clientWidth), height: 96 });
  }

  options(series, width) {
    const ink = color("--ink-2");
    const axis = { stroke: ink, grid: { stroke: color("--line"), width: 1 }, ticks: { show: false } };
    return {
      width,
      height: 96,
      legend: { show: false },
      cursor: { y: false, sync: { key: crosshair().key } },
      scales: { x: { time: true }, y: { range: () => [0, this.top] } },
      axes: [
        {
          ...axis,
          size: 22,
          space: 60,
          font: "11px system-ui",
          values: (_, ticks) => ticks.map((tick) => clock.format(new Date(1000 * tick))),
        },
        {
          ...axis,
          size: 48,
          space: 28,
          font: "11px system-ui",
          values: (_, ticks) => ticks.map((tick) => formatValue(tick, this.signal.unit)),
        },
      ],
      series: [
        {},
        ...series.map((one, index) => ({
          label: one.name,
          stroke: index === 0 ? color("--ink") : ink,
          width: 1.5,
          dash: DASHES[index % DASHES.length],
          points: { show: false },
        })),
      ],
      hooks: {
        draw: [(plot) => this.drawLimit(plot)],
        setCursor: [(plot) => this.describe(series, plot.cursor.idx)],
      },
    };
  }

  drawLimit(plot) {
    for (const [limit, name] of [[this.signal.warn, "--degraded"], [this.signal.critical, "--bad"]]) {
      if (limit > this.top) continue;
      const y = Math.round(plot.valToPos(limit, "y", true));
      plot.ctx.save();
      plot.ctx.strokeStyle = color(name);
      plot.ctx.globalAlpha = 0.55;
      plot.ctx.setLineDash([3, 4]);
      plot.ctx.beginPath();
      plot.ctx.moveTo(plot.bbox.left, y);
      plot.ctx.lineTo(plot.bbox.left + plot.bbox.width, y);
      plot.ctx.stroke();
      plot.ctx.restore();
    }
  }

  // Shows the newest values, or those under the crosshair, and the same in words below.
  describe(series, index = null) {
    const now = this.figure.querySelector("[data-part=now]");
    const texts = series.map((one) => {
      const known = one.values.filter((value) => value !== null);
      const value = index === null ? known.at(-1) : this.plot?.data[series.indexOf(one) + 1][index];
      return value === null || value === undefined ? "–" : formatValue(value, this.signal.unit);
    });
    now.textContent = texts.join(" · ");
    this.figure.querySelector("[data-part=summary]").textContent = series.length
      ? series.map((one) => `${one.name}: ${summaryOf(one.values, this.signal.unit)}`).join("; ")
      : "no data from the clusters of this region in the last two hours";
  }
}
