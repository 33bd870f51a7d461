// Charts by uPlot: in the theme's colours, with a legend and a sentence that say the same.

import { useEffect, useRef, useState } from './vendor/preact-hooks.js';
import { reach } from './columns.js';
import { clock } from './format.js';
import { html, useWidth } from './ui.js';

const HEIGHT = 200;
const YOUNG_S = 300;
const DASHES = { solid: undefined, dash: [6, 4], dot: [2, 3], long: [12, 4] };

/**
 * One chart. `series` are `{name, color, dash, fill, width, points}`, `color` being a name of
 * theme.css; `data` is uPlot's: times, then a column for each. `show` makes a value text, `tick`
 * does so for the axis, whose lines are `steps` apart. `sentence` is the chart in words.
 */
export function Chart({ title, series, data, show, tick = show, steps, note, sentence, span }) {
  const [place, width] = useWidth();
  const canvas = useRef(null);
  const plot = useRef(null);
  const [at, setAt] = useState(null);
  const theme = useThemeChanges();
  const latest = useRef(data);
  latest.current = data;

  useEffect(() => {
    if (width === 0) return undefined;
    const options = describe({ series, tick, steps, width, span, hover: setAt });
    const made = new window.uPlot(options, latest.current, canvas.current);
    plot.current = made;
    return () => {
      plot.current = null;
      made.destroy();
    };
  }, [width, theme, span, series.map((each) => each.name).join()]);
  useEffect(() => plot.current?.setData(data), [data]);

  const times = data[0];
  const index = at !== null && at < times.length ? at : times.length - 1;
  return html`<figure class="chart">
    <figcaption><h3>${title}</h3>
      <span class="muted">${note && `${note} · `}${times.length > 0 && clock(times[index] * 1000)}</span></figcaption>
    <ul class="legend">${series.map((each, n) => html`<li key=${each.name}>
      <${Swatch} color=${each.color} dash=${each.dash} />${each.name}
      <span class="figure">${show(shown(data[n + 1], index, each.points))}</span></li>`)}</ul>
    <div class="plot" ref=${place}><div ref=${canvas} role="img" aria-label=${`${title}. ${sentence}`}></div></div>
    <p class="hidden">${sentence}</p>
  </figure>`;
}

// Where values come now and then, the last one holds.
function shown(column, index, sparse) {
  let n = index;
  while (sparse && n > 0 && column[n] === null) n -= 1;
  return column[n];
}

function Swatch({ color, dash = 'solid' }) {
  return html`<svg class="swatch" width="20" height="10" aria-hidden="true">
    <line x1="0" x2="20" y1="5" y2="5" class=${`stroke-${color}`} stroke-width="2.5"
      stroke-dasharray=${DASHES[dash]?.join(' ')} /></svg>`;
}

function useThemeChanges() {
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const change = () => setTurn((n) => n + 1);
    addEventListener('themechange', change);
    return () => removeEventListener('themechange', change);
  }, []);
  return turn;
}

function describe({ series, tick, steps, width, span, hover }) {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(`--${name}`).trim();
  const axis = {
    stroke: color('muted'),
    font: '12px system-ui, sans-serif',
    grid: { stroke: color('grid'), width: 1 },
    ticks: { show: false },
  };
  return {
    width,
    height: HEIGHT,
    padding: [10, 8, 0, 0],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 } },
    scales: {
      x: { range: (_, low, high) => times(low, high, span) },
      y: { range: (_, low, high) => [0, reach(high)] },
    },
    axes: [
      { ...axis, size: 28, space: 70, values: (_, splits) => splits.map(hourAndMinute) },
      { ...axis, size: 62, space: 36, incrs: steps, values: (_, splits) => splits.map(tick) },
    ],
    series: [{}, ...series.map((each) => ({
      label: each.name,
      stroke: color(each.color),
      width: each.width ?? 1.75,
      dash: DASHES[each.dash],
      fill: each.fill ? color(`${each.color}-fill`) : undefined,
      spanGaps: Boolean(each.points),
      points: { show: Boolean(each.points) && few, size: 5, fill: color(each.color) },
    }))],
    hooks: { setCursor: [(made) => hover(made.cursor.idx ?? null)] },
  };
}

// No more than the span, and of a gateway that has just been started no more than there is.
function times(low, high, span) {
  if (high == null) return [0, span];
  return [Math.max(high - span, Math.min(low, high - YOUNG_S)), high];
}

// Where points stand close, they hide the line.
function few(made, column) {
  return made.data[column].reduce((n, value) => n + (value === null ? 0 : 1), 0) < made.width / 6;
}

const hourAndMinute = (at) => clock(at * 1000).slice(0, 5);
