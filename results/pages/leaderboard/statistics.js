// What seeds say, as results/stats has it: intervals and a step-down max-T test over joint sign
// flips (Westfall and Young 1993). Draws are fewer than there, from a fixed generator.
const DRAWS = 20000, RESAMPLES = 9999, EXACT_UNITS = 14, BLOCK = 500;
const ROOM = 1e-9;  // within which statistics are equal, as in results/stats/max_t.py
const EQUAL = 1e-9;  // part of the largest, within which values differ by rounding alone

function generator(seed) {  // mulberry32
  return () => {
    seed = seed + 0x6D2B79F5 | 0;
    let t = Math.imul(seed ^ seed >>> 15, 1 | seed);
    t = t + Math.imul(t ^ t >>> 7, 61 | t) ^ t;
    return ((t ^ t >>> 14) >>> 0) / 4294967296;
  };
}

function logGamma(x) {  // Lanczos, g 7
  const c = [.99999999999980993, 676.5203681218851, -1259.1392167224028, 771.32342877765313,
    -176.61502916214059, 12.507343278686905, -.13857109526572012, 9.9843695780195716e-6,
    1.5056327351493116e-7];
  if (x < .5) return Math.log(Math.PI / Math.sin(Math.PI * x)) - logGamma(1 - x);
  let sum = c[0];
  for (let i = 1; i < 9; i++) sum += c[i] / (x - 1 + i);
  const t = x + 6.5;
  return .5 * Math.log(2 * Math.PI) + (x - .5) * Math.log(t) - t + Math.log(sum);
}

function logBetaPart(a, b, x, rest) {  // the logarithm of the regularised incomplete beta; rest 1-x
  const front = logGamma(a + b) - logGamma(a) - logGamma(b) + a * Math.log(x) + b * Math.log(rest);
  if (x > (a + 1) / (a + b + 2)) return Math.log1p(-Math.exp(logBetaPart(b, a, rest, x)));
  let c = 1, d = 1 / (1 - (a + b) * x / (a + 1)), h = d;
  for (let m = 1; m < 300; m++) {  // Lentz's continued fraction
    let k = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / (1 + k * d); c = 1 + k / c; h *= d * c;
    k = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / (1 + k * d); c = 1 + k / c; h *= d * c;
    if (Math.abs(d * c - 1) < 1e-12) break;
  }
  return front + Math.log(h / a);
}

// The logarithm of the two-sided tail of Student's t, where 1 - r² = left and r² = t²/(t² + df).
const logTail = (left, df) => left >= 1 ? 0 : logBetaPart(df / 2, .5, left, 1 - left);

function studentQuantile(level, df) {  // of two sides
  let low = 0, high = 1e4;
  for (let i = 0; i < 200; i++) {
    const t = (low + high) / 2;
    if (logTail(df / (df + t * t), df) > Math.log(1 - level)) low = t; else high = t;
  }
  return low;
}

function normalTail(z) {  // above z, within 1.2e-7 of its value (erfc by Chebyshev's fit)
  const x = Math.abs(z) / Math.SQRT2, t = 1 / (1 + x / 2);
  const fit = [-1.26551223, 1.00002368, .37409196, .09678418, -.18628806, .27886807, -1.13520398,
    1.48851587, -.82215223, .17087277].reduceRight((sum, c) => sum * t + c, 0);
  const tail = t * Math.exp(-x * x + fit) / 2;
  return z > 0 ? tail : 1 - tail;
}

function normalQuantile(p) {
  let low = -40, high = 40;
  for (let i = 0; i < 100; i++) {
    const z = (low + high) / 2;
    if (1 - normalTail(z) < p) low = z; else high = z;
  }
  return (low + high) / 2;
}

function sum(values) {  // compensated (Neumaier), as exact as Python's means
  let total = 0, lost = 0;
  for (const value of values) {
    const next = total + value;
    lost += Math.abs(total) >= Math.abs(value) ? total - next + value : value - next + total;
    total = next;
  }
  return total + lost;
}

const mean = values => sum(values) / values.length;
const drawn = new Map();

function resamples(n) {
  if (!drawn.has(n)) {
    const random = generator(1), places = new Uint16Array(RESAMPLES * n);
    for (let i = 0; i < places.length; i++) places[i] = Math.floor(n * random());
    const z = Math.sqrt(n / (n - 1)) * studentQuantile(.95, n - 1);
    drawn.set(n, {places, z});
  }
  return drawn.get(n);
}

function bcaInterval(values, fewest) {  // Efron 1987, widened for few values (Hesterberg 2015)
  const n = values.length, middle = mean(values);
  if (n < fewest) return null;
  const most = Math.max(...values.map(Math.abs));
  if (Math.max(...values) - Math.min(...values) <= EQUAL * most) return [middle, middle];
  const {places, z} = resamples(n), means = new Float64Array(RESAMPLES);
  for (let i = 0; i < RESAMPLES; i++) {
    let total = 0;
    for (let j = 0; j < n; j++) total += values[places[i * n + j]];
    means[i] = total / n;
  }
  means.sort();
  const room = 1e-12 * most;
  let below = 0, upTo = 0;
  for (const one of means) { below += one < middle - room; upTo += one <= middle + room; }
  const bias = normalQuantile((below + upTo) / 2 / RESAMPLES);
  const cubes = sum(values.map(v => (v - middle) ** 3));
  const a = cubes / (6 * sum(values.map(v => (v - middle) ** 2)) ** 1.5);
  return [-z, z].map(end => {
    const share = 1 - normalTail(bias + (bias + end) / (1 - a * (bias + end)));
    return quantile(means, share);
  });
}

function patternsOf(units) {  // signs [patterns, units]; the first pattern is the one observed
  const exact = units <= EXACT_UNITS, count = exact ? 2 ** Math.max(0, units - 1) : DRAWS + 1;
  const signs = new Float64Array(count * units), random = generator(2);
  for (let p = 0; p < count; p++)
    for (let u = 0; u < units; u++)
      signs[p * units + u] = p === 0 ? 1 : exact ? (p >> u & 1 ? -1 : 1) : random() < .5 ? -1 : 1;
  return {signs, count};
}

const tails = new Map();

function tailScale(n) {  // -log of the tail as a function of √(-log(1 - r²)), which is smooth
  if (!tails.has(n)) {
    const grid = new Float64Array(2049);
    for (let i = 1; i < grid.length; i++) grid[i] = -logTail(Math.exp(-((i * 6 / 2048) ** 2)), n - 1);
    tails.set(n, r => {
      const size = -Math.log1p(-Math.min(r * r, 1 - 2.4e-16));
      const at = Math.min(Math.sqrt(size) * 2048 / 6, 2047.999);
      const i = Math.floor(at);
      return grid[i] + (at - i) * (grid[i + 1] - grid[i]);
    });
  }
  return tails.get(n);
}

// Adjusted p values of comparisons, each {units, gaps}: names of its units, and its differences.
// Two `sides` with the same units, {units, scores}, are summed once for all of their comparisons.
function stepDown(comparisons) {
  const places = new Map();
  for (const one of comparisons)
    for (const unit of one.units) if (!places.has(unit)) places.set(unit, places.size);
  const {signs, count} = patternsOf(places.size), sized = comparisons.map(one => one.gaps.length);
  const alike = sized.every(n => n === sized[0]);
  const family = comparisons.map(one => statisticOf(one, places, alike));
  const observed = family.map(of => of(signs, 0, 1, new Map())[0]);
  const order = observed.map((_, k) => k).sort((i, j) => observed[i] - observed[j]);
  const reached = new Float64Array(family.length);
  for (let begin = 0; begin < count; begin += BLOCK) {
    const size = Math.min(BLOCK, count - begin), largest = new Float64Array(size), sums = new Map();
    for (const k of order) {  // from the least extreme up
      const own = family[k](signs, begin, size, sums), limit = observed[k] - ROOM;
      let hits = 0;
      for (let p = 0; p < size; p++) {
        if (own[p] > largest[p]) largest[p] = own[p];
        if (largest[p] >= limit) hits++;
      }
      reached[k] += hits;
    }
  }
  const ps = observed.map((value, k) => value > 0 ? reached[k] / count : 1);
  let least = 0;
  for (const k of order.reverse()) ps[k] = least = Math.max(least, ps[k]);
  return ps;
}

// A function that returns a comparison's statistics under a block of patterns.
function statisticOf(one, places, alike) {
  const n = one.gaps.length, sizes = one.gaps.map(Math.abs), largest = Math.max(...sizes);
  if (largest - Math.min(...sizes) <= EQUAL * largest)  // copies of one run say nothing of chance
    return (signs, begin, size) => new Float64Array(size);
  const root = Math.sqrt(n * sum(one.gaps.map(d => (d / largest) ** 2))) * largest;
  const onScale = alike ? r => r : tailScale(n), sides = one.sides;
  return (signs, begin, size, sums) => {
    const out = new Float64Array(size);
    const own = sides ? null : signedSums(one.units, one.gaps, places, signs, begin, size);
    const [a, b] = sides ? sides.map(side => {
      if (!sums.has(side)) sums.set(side, signedSums(side.units, side.scores, places, signs, begin, size));
      return sums.get(side);
    }) : [];
    for (let p = 0; p < size; p++) out[p] = onScale(Math.abs(own ? own[p] : a[p] - b[p]) / root);
    return out;
  };
}

function signedSums(units, values, places, signs, begin, size) {
  const at = units.map(unit => places.get(unit)), n = at.length, step = places.size;
  const out = new Float64Array(size);
  for (let p = 0, base = begin * step; p < size; p++, base += step) {
    let total = 0;
    for (let j = 0; j < n; j++) total += signs[base + at[j]] * values[j];
    out[p] = total;
  }
  return out;
}

// A row's scores on some tasks, by unit and by seed; seeds are those that it finished on all.
function sideOf(data, row, tasks) {
  const {scores} = data.rows[row];
  const seeds = Object.keys(scores[tasks[0]]).filter(s => tasks.every(t => s in scores[t]));
  return onSeeds(data, row, tasks, seeds);
}

function onSeeds(data, row, tasks, seeds) {
  const {scores} = data.rows[row], bySeed = seeds.map(s => mean(tasks.map(t => scores[t][s])));
  const trainings = new Set(tasks.map(t => data.trainings[t]));
  if (trainings.size < tasks.length) {  // one training has several columns: no pairs of their own
    const training = trainings.size === 1 ? [...trainings][0] : 'average';
    return {seeds, bySeed, units: seeds.map(s => training + ' ' + s), scores: bySeed};
  }
  const pairs = tasks.flatMap(t => seeds.map(s => [t, s]));
  const units = pairs.map(([t, s]) => data.trainings[t] + ' ' + s);
  return {seeds, bySeed, units, scores: pairs.map(([t, s]) => scores[t][s])};
}

// The differences of one row to another on some tasks, by seed and by unit; null without a seed.
function apart(data, tasks, [first, one], [second, other]) {
  const seeds = one.seeds.filter(s => other.seeds.includes(s));
  if (!seeds.length) return null;
  const whole = seeds.length === one.seeds.length && seeds.length === other.seeds.length;
  const [a, b] = whole ? [one, other] : [first, second].map(row => onSeeds(data, row, tasks, seeds));
  const minus = (p, q) => p.map((value, i) => value - q[i]);
  return {bySeed: minus(a.bySeed, b.bySeed), units: a.units, gaps: minus(a.scores, b.scores),
    sides: whole ? [a, b] : null};
}

// Whether a pair has the seeds to be set apart, however far apart it is.
const isAble = (data, one) => one.bySeed.length >= data.fewest && 2 ** (1 - one.gaps.length) < data.level;

function averageOf(row, tasks) {
  const means = tasks.map(t => Object.values(row.scores[t])).map(s => s.length ? mean(s) : null);
  return means.includes(null) ? null : mean(means);
}

// Differences to a row by row and column; a column is a list of tasks.
function differencesTo(data, base, columns) {
  const out = new Map(), tested = [];
  if (base === null) return out;
  const sides = columns.map(tasks => data.rows.map((_, row) => [row, sideOf(data, row, tasks)]));
  data.rows.forEach((_, row) => columns.forEach((tasks, column) => {
    const one = row === base ? null : apart(data, tasks, sides[column][row], sides[column][base]);
    if (!one) return;
    const interval = bcaInterval(one.bySeed, data.fewest);
    const gap = {mean: mean(one.bySeed), interval, pairs: one.gaps.length, p: null, claimed: false};
    out.set(row + ' ' + column, gap);
    if (isAble(data, one)) tested.push([gap, one]);
  }));
  stepDown(tested.map(([, one]) => one)).forEach((p, i) => {
    const gap = tested[i][0], ends = gap.interval;
    gap.p = p;
    gap.claimed = ends !== null && (ends[0] > 0 || ends[1] < 0) && p < data.level;
  });
  return out;
}

// The rows that are below no other by a test of all pairs, those that share too few seeds with any
// for one, and the rest that are not below the best; null where nothing could be set apart.
function topGroup(data, tasks) {
  const rows = data.rows.map((_, i) => i).filter(i => averageOf(data.rows[i], tasks) !== null);
  const pairs = [], sides = new Map(rows.map(row => [row, sideOf(data, row, tasks)]));
  rows.forEach((a, i) => rows.slice(i + 1).forEach(b => {
    const one = apart(data, tasks, [a, sides.get(a)], [b, sides.get(b)]);
    if (one && isAble(data, one)) pairs.push({a, b, one});
  }));
  if (!pairs.length) return null;
  const ps = stepDown(pairs.map(pair => pair.one));
  const group = new Set(pairs.flatMap(({a, b}) => [a, b]));
  const untested = new Set(rows.filter(row => !group.has(row)));
  const means = new Map(rows.map(row => [row, averageOf(data.rows[row], tasks)]));
  const best = rows.reduce((p, q) => means.get(q) > means.get(p) ? q : p);
  const besideBest = new Set([...group].filter(row => row !== best));
  pairs.forEach(({a, b, one}, i) => {
    if (ps[i] >= data.level) return;
    const ends = bcaInterval(one.bySeed, data.fewest);
    const below = ends[0] > 0 ? b : ends[1] < 0 ? a : null;
    group.delete(below);
    if (a === best || b === best) besideBest.delete(below);
  });
  return {group, untested, besideBest};
}
