// Keeps the fleet page fresh: tiles and verdict every 10 s, charts every 30 s, nothing when hidden.
import { getJson, secondsSinceAnswer } from "./api.js";
import { Chart, DASHES } from "./charts.js";
import { formatAge } from "./format.js";
import { installKeys } from "./keys.js";

const TILES_MS = 10_000;
const CHARTS_MS = 30_000;
const RANGE_SECONDS = 7200;
const STEP_SECONDS = 30;
const signals = JSON.parse(document.getElementById("signals").textContent);
const charts = new Map();

const setPart = (element, part, text) => {
  const target = element.querySelector(`[data-part=${part}]`);
  if (target && target.textContent !== text) target.textContent = text;
};

const showTile = (element, tile) => {
  const faded = element.classList.contains("faded"); // what does not match stays so
  element.className = `tile level-${tile.level}${faded ? " faded" : ""}`;
  setPart(element, "word", tile.word);
  setPart(element, "title", tile.worst?.title ?? "");
  setPart(element, "value", tile.worst?.text ?? "");
  setPart(element, "age", tile.age_seconds === null ? tile.age : `data ${tile.age} old`);
  element.title = `${tile.cluster}: ${tile.word}`;
  const error = element.querySelector("[data-part=error]");
  error.hidden = !tile.error;
  error.textContent = tile.error;
};

// Puts a region where it belongs, unless it stands there already: moving redraws nothing twice.
const place = (section, index) => {
  const fleet = section.parentElement;
  if (fleet.children[index] !== section) fleet.insertBefore(section, fleet.children[index]);
};

const refreshTiles = async () => {
  const overview = await getJson("/api/v1/regions");
  document.getElementById("verdict").textContent = overview.verdict;
  const shown = new Set();
  for (const [index, region] of overview.regions.entries()) {
    const section = document.querySelector(`[data-region="${CSS.escape(region.region)}"]`);
    const list = section?.querySelector(".tiles");
    for (const tile of region.tiles) {
      const element = list?.querySelector(`[data-cluster="${CSS.escape(tile.cluster)}"]`);
      if (!element) return location.reload(); // the registry changed
      showTile(element, tile);
      list.append(element);
      shown.add(tile.cluster);
    }
    place(section, index);
  }
  if (shown.size !== document.querySelectorAll("[data-cluster]").length) location.reload();
};

// Turns the API's matrix into columns on one time axis: [times, region → series].
const columns = (matrix, start, steps) => {
  const times = Array.from({ length: steps }, (_, index) => start + index * STEP_SECONDS);
  const regions = new Map();
  let top = 0;
  for (const { metric, values } of matrix) {
    const column = new Array(steps).fill(null);
    for (const [time, text] of values) {
      const value = Number(text);
      if (!Number.isFinite(value)) continue;
      column[Math.round((time - start) / STEP_SECONDS)] = value;
      top = Math.max(top, value);
    }
    if (!regions.has(metric.region)) regions.set(metric.region, []);
    regions.get(metric.region).push({ name: metric.cluster, values: column });
  }
  for (const series of regions.values()) series.sort((a, b) => (a.name < b.name ? -1 : 1));
  return { times, regions, top };
};

// Says once for each region which line is which cluster, while there are few of them.
const showLegend = (section, series) => {
  const legend = section.querySelector("[data-part=legend]");
  const few = series.length > 1 && series.length <= DASHES.length;
  const names = few ? series.map((one) => one.name) : [];
  if (legend.dataset.names === names.join()) return;
  legend.dataset.names = names.join();
  legend.replaceChildren(...names.map((name, index) => {
    const item = document.createElement("li");
    item.className = `line-${index}`;
    item.textContent = name;
    return item;
  }));
};

const refreshSignal = async (signal, start, end, steps) => {
  const answer = await getJson("/prometheus/api/v1/query_range", {
    query: signal.query, start, end, step: STEP_SECONDS,
  });
  const { times, regions, top } = columns(answer.data.result, start, steps);
  const scale = top > 0 ? top * 1.15 : signal.warn;
  for (const figure of document.querySelectorAll(`[data-signal="${signal.name}"]`)) {
    const section = figure.closest("[data-region]");
    const series = regions.get(section.dataset.region) ?? [];
    if (!charts.has(figure)) charts.set(figure, new Chart(figure, signal));
    charts.get(figure).draw(times, series, scale);
    showLegend(section, series);
  }
};

const refreshCharts = async () => {
  const end = Math.floor(Date.now() / 1000 / STEP_SECONDS) * STEP_SECONDS;
  const start = end - RANGE_SECONDS;
  const steps = RANGE_SECONDS / STEP_SECONDS + 1;
  for (const signal of signals) await refreshSignal(signal, start, end, steps);
};

const showConnection = (error) => {
  const line = document.getElementById("connection");
  line.hidden = !error;
  line.textContent = error
    ? `Connection lost: what you see is ${formatAge(secondsSinceAnswer())} old (${error.message})`
    : "";
};

const repeat = (work, everyMs) => {
  const turn = async () => {
    if (!document.hidden) {
      try {
        await work();
        showConnection(null);
      } catch (error) {
        showConnection(error);
      }
    }
    setTimeout(turn, everyMs);
  };
  turn();
};

document.getElementById("fleet").style.setProperty("--regions", String(
  document.querySelectorAll("[data-region]").length,
));
repeat(refreshTiles, TILES_MS);
repeat(refreshCharts, CHARTS_MS);
addEventListener("resize", () => charts.forEach((chart) => chart.resize()));
addEventListener("themechange", () => refreshCharts().catch(showConnection));
installKeys();
