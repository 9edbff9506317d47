// Axes and numbers as scale.py and scatter.py make them.
const REACH = 2;

function quantile(ordered, share) {
  const place = share * (ordered.length - 1), below = Math.floor(place);
  const above = Math.min(below + 1, ordered.length - 1);
  return ordered[below] + (place - below) * (ordered[above] - ordered[below]);
}

function stepOf(about) {
  const power = 10 ** Math.floor(Math.log10(about));
  return [1, 2, 5, 10].map(times => times * power).find(step => step >= about * (1 - 1e-9));
}

function axisOf(low, high, ticks) {
  const beyond = value => (value > high) - (value < low);
  const place = value => Math.min(1, Math.max(0, (value - low) / (high - low)));
  return {low, high, ticks, beyond, place};
}

function scaleOf(values, wanted = 5, whole = false) {
  const ordered = values.length ? [...values].sort((a, b) => a - b) : [0];
  let low = ordered[0], high = ordered[ordered.length - 1];
  const first = quantile(ordered, .25), third = quantile(ordered, .75);
  if (third > first && !whole) {
    low = Math.max(low, first - REACH * (third - first));
    high = Math.min(high, third + REACH * (third - first));
  }
  if (high - low < 1e-9 * Math.max(1, Math.abs(low), Math.abs(high))) [low, high] = [low - 1, high + 1];
  const step = stepOf((high - low) / wanted);
  const begin = Math.floor(low / step + 1e-9), end = Math.ceil(high / step - 1e-9), ticks = [];
  for (let i = begin; i <= end; i++) ticks.push(i * step);
  return axisOf(begin * step, end * step, ticks);
}

function powersOf(costs) {
  let low = Math.log10(Math.min(...costs)), high = Math.log10(Math.max(...costs));
  const room = .04 * (high - low), ticks = [];
  [low, high] = [low - room, high + room];
  for (let i = Math.ceil(low); i <= Math.floor(high); i++) ticks.push(i);
  if (ticks.length > 1) return axisOf(low, high, ticks);
  const between = [];  // one number is no scale
  for (let i = Math.floor(low); i <= Math.floor(high); i++) between.push(...[1, 2, 5].map(n => i + Math.log10(n)));
  return axisOf(low, high, between.filter(tick => low <= tick && tick <= high));
}

function fixedText(value, digits) {  // halves to the even digit, as Python writes them; others are no halves
  const size = Math.abs(value), isDown = digits ? size % 1 === .25 : size % 2 === .5;
  return (isDown ? value - Math.sign(value) / 100 : value).toFixed(digits);
}

function probabilityText(p) {  // as Python writes it with two digits
  const scale = 10 ** (1 - Math.floor(Math.log10(p))), isExact = p * 2 ** 30 % 1 === 0;
  const rounded = isExact && p * scale % 2 === .5 ? Math.floor(p * scale) / scale : +p.toPrecision(2);
  if (rounded >= 1e-4) return String(rounded);
  const [digits, power] = rounded.toExponential().split('e-');
  return `${digits}e-${power.padStart(2, '0')}`;
}

function tickText(value) {
  const text = String(+value.toPrecision(6)).replace('-', '−');
  return text === '−0' ? '0' : text;
}

function shortText(value) {
  for (const [size, sign] of [[1e6, ' M'], [1e3, ' k']])
    if (Math.abs(value) >= size * (1 - 1e-9)) return tickText(value / size) + sign;
  return tickText(value);
}

function pointsText(value) {
  const text = fixedText(Math.abs(100 * value), 1);
  return text === '0.0' ? text : (value < 0 ? '−' : '+') + text;
}
