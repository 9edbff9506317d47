// The rows and pictures of a leaderboard as table.py, forest.py and scatter.py write them.
const EDGE = 4, LEFT = 38, RIGHT = 300, TOP = 10, BOTTOM = 34, WIDTH = 460, STEP = 14, NAMED = 30;

const escaped = text => String(text).replace(/[&<>"']/g, sign => `&#${sign.charCodeAt(0)};`);
const across = (axis, value) => (EDGE + (100 - 2 * EDGE) * axis.place(value)).toFixed(2) + '%';
const valueOf = value => value === null ? '' : ` data-v="${+value.toPrecision(9)}"`;

function gapText(line) {
  if (line.isBaseline) return 'baseline';
  if (!line.gap) return '–';
  return differenceText(line.gap);
}

function differenceText(gap) {
  const ends = gap.interval;
  return pointsText(gap.mean) + (ends ? ` [${ends.map(pointsText).join(', ')}]` : '');
}

function gapScale(lines) {
  const gaps = lines.filter(line => line.gap).map(line => line.gap);
  if (!gaps.length) return axisOf(-1, 1, []);
  return scaleOf([0, ...gaps.flatMap(gap => [gap.mean, ...gap.interval || []].map(v => 100 * v))]);
}

function arrow(axis, value) {
  const way = axis.beyond(value);
  return `<svg x="${across(axis, value)}" y="13" overflow="visible">`
    + `<path class="arrow" d="M${9 * way},0L${way},-5L${way},5Z"/></svg>`;
}

function strip(line, axis) {
  const parts = axis.ticks.map(tick => `<line class="${tickText(tick) === '0' ? 'zero' : 'tick'}"`
    + ` x1="${across(axis, tick)}" x2="${across(axis, tick)}" y1="0" y2="26"/>`);
  if (line.gap) {
    const middle = 100 * line.gap.mean, ends = (line.gap.interval || []).map(v => 100 * v);
    if (ends.length) parts.push(`<line class="span" x1="${across(axis, ends[0])}"`
      + ` x2="${across(axis, ends[1])}" y1="13" y2="13"/>`);
    const cut = ends.filter(axis.beyond);
    parts.push(...cut.map(end => arrow(axis, end)));
    if (!axis.beyond(middle)) parts.push(`<circle cx="${across(axis, middle)}" cy="13" r="4.5"/>`);
    else if (!cut.length) parts.push(arrow(axis, middle));
  } else if (line.isBaseline) {
    parts.push(`<circle class="base" cx="${across(axis, 0)}" cy="13" r="3.5"/>`);
  }
  const kind = line.gap && line.gap.claimed ? 'strip claimed' : 'strip';
  return `<svg class="${kind}" height="26" aria-hidden="true">${parts.join('')}</svg>`;
}

function axisStrip(axis) {
  const numbers = axis.ticks.map(tick => `<text x="${across(axis, tick)}" y="12">${tickText(tick)}</text>`);
  return `<svg class="axis" height="16" aria-hidden="true">${numbers.join('')}</svg>`;
}

function pairsText(gap) {
  if (!gap) return '';
  return `${gap.pairs} pairs` + (gap.p === null ? '' : `; adjusted p ${probabilityText(gap.p)}`);
}

function rowText(line, i, axis, timed) {
  const claimed = line.gap && line.gap.claimed, gap = gapText(line);
  const kinds = [['top', line.tied], ['base', line.isBaseline], ['claimed', claimed]];
  const kind = kinds.filter(([, holds]) => holds).map(([name]) => name).join(' ');
  const tie = line.tied ? ' <span class="tie">top group</span>' : '';
  const numbers = Object.entries({
    low: line.gap && line.gap.interval ? line.gap.interval[0] : null,
    high: line.gap && line.gap.interval ? line.gap.interval[1] : null,
    p: line.gap ? line.gap.p : null,
  }).filter(([, value]) => value !== null).map(([name, value]) => ` data-${name}="${value}"`).join('');
  return `<tr class="${kind}"${numbers} data-tied="${line.tied === null ? '' : line.tied}">`
    + `<th scope="row" data-v="${escaped(line.name)}">`
    + `<span class="rank">${line.score === null ? '–' : i + 1}</span>`
    + ` <span class="method">${escaped(line.name)}</span>${tie}</th>`
    + `<td class="score"${valueOf(line.score)}>${line.score === null ? '–' : fixedText(100 * line.score, 1)}</td>`
    + `<td class="gap"${valueOf(line.gap ? line.gap.mean : null)} title="${pairsText(line.gap)}"><div>`
    + `${strip(line, axis)}<span class="text">${claimed ? `<b>${gap}</b>` : gap}</span></div></td>`
    + `<td class="fact" data-h="seeds" data-v="${parseInt(line.seeds)}">${line.seeds}`
    + `${line.collapsed ? ` †${line.collapsed}` : ''}</td>`
    + `<td class="fact" data-h="trainable"${valueOf(line.trainable)}>${escaped(line.size)}</td>`
    + (timed ? `<td class="fact" data-h="seconds"${valueOf(line.seconds)}>`
      + `${line.seconds === null ? '–' : fixedText(line.seconds, 0)}</td>` : '') + '</tr>\n';
}

function scatter(lines, cost, label) {
  const spots = lines.filter(line => line.score !== null && line[cost] > 0)
    .map(line => ({x: line[cost], y: 100 * line.score, name: line.name}));
  if (spots.length < 2) return '';
  const costs = spots.map(spot => spot.x), wide = Math.max(...costs) > 8 * Math.min(...costs);
  const xAxis = wide ? powersOf(costs) : scaleOf([...costs, 0], 4, true);
  const yAxis = scaleOf(spots.map(spot => spot.y));
  const bottom = Math.max(230, TOP + STEP * Math.min(spots.length, NAMED));
  const right = value => LEFT + (RIGHT - LEFT) * xAxis.place(value);
  const up = value => bottom - (bottom - TOP) * yAxis.place(value);
  for (const spot of spots) {
    spot.left = right(wide ? Math.log10(spot.x) : spot.x);
    spot.top = up(spot.y);
  }
  const label_ = `<text class="label" x="${((LEFT + RIGHT) / 2).toFixed(0)}" y="${bottom + 30}">${label}</text>`;
  return `<svg class="scatter" viewBox="0 0 ${WIDTH} ${bottom + BOTTOM}" role="img"`
    + ` aria-label="score against ${label}">${frame(xAxis, yAxis, right, up, bottom, wide)}`
    + `<path class="front" d="${frontOf(spots)}H${RIGHT}"/>`
    + spots.map(spot => dot(spot, yAxis)).join('') + namesOf(spots, bottom) + label_ + '</svg>';
}

function frontOf(spots) {
  let best = -Infinity, line = '';
  for (const spot of [...spots].sort((p, q) => p.x - q.x || q.y - p.y)) if (spot.y > best) {
    const [x, y] = [spot.left.toFixed(1), spot.top.toFixed(1)];
    line += line ? `H${x}V${y}` : `M${x},${y}`;
    best = spot.y;
  }
  return line;
}

function dot(spot, yAxis) {
  const title = `<title>${escaped(spot.name)}: ${fixedText(spot.y, 1)}</title>`;
  const way = yAxis.beyond(spot.y), x = spot.left.toFixed(1);
  if (!way) return `<circle class="spot" cx="${x}" cy="${spot.top.toFixed(1)}" r="4">${title}</circle>`;
  return `<path class="spot" d="M${x},${(spot.top - 5 * way).toFixed(1)}l-5,${7 * way}h10Z">${title}</path>`;
}

function frame(xAxis, yAxis, right, up, bottom, wide) {
  const rows = yAxis.ticks.map(tick => [up(tick), tick]).map(([y, tick]) =>
    `<line class="tick" x1="${LEFT}" x2="${RIGHT}" y1="${y.toFixed(1)}" y2="${y.toFixed(1)}"/>`
    + `<text class="y" x="${LEFT - 5}" y="${(y + 4).toFixed(1)}">${tickText(tick)}</text>`);
  const columns = xAxis.ticks.map(tick => [right(tick).toFixed(1), tick]).map(([x, tick]) =>
    `<line class="tick" x1="${x}" x2="${x}" y1="${TOP}" y2="${bottom}"/>`
    + `<text class="x" x="${x}" y="${bottom + 14}">${shortText(wide ? 10 ** tick : tick)}</text>`);
  return rows.join('') + columns.join('');
}

function namesOf(spots, bottom) {
  const order = spots.slice(0, NAMED).sort((p, q) => p.top - q.top);
  const places = [];
  for (const spot of order) places.push(Math.max(spot.top, places.length ? places.at(-1) + STEP : TOP));
  let limit = bottom;
  for (let k = places.length - 1; k >= 0; k--) {
    places[k] = Math.min(places[k], limit);
    limit = places[k] - STEP;
  }
  return order.map((spot, k) => `<path class="lead" d="M${(spot.left + 5).toFixed(1)},`
    + `${spot.top.toFixed(1)}L${RIGHT + 8},${places[k].toFixed(1)}"/>`
    + `<text class="name" x="${RIGHT + 11}" y="${(places[k] + 4).toFixed(1)}">`
    + `${escaped(cutName(spot.name))}</text>`).join('');
}

function cutName(name) {
  const line = name.split(/\s+/).filter(Boolean).join(' '), signs = [...line];
  return signs.length <= 23 ? line : signs.slice(0, 9).join('') + '…' + signs.slice(-13).join('');
}
