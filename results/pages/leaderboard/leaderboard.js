// Recomputes a leaderboard for a chosen baseline and tasks, and keeps the choice in the address.
const COSTS = [['trainable', 'trainable parameters'], ['seconds', 'training seconds']];
const listed = names => names.length < 2 ? names.join('')
  : names.slice(0, -1).join(', ') + ' and ' + names[names.length - 1];

function boardOf(section) {
  const data = JSON.parse(section.querySelector('script[type="application/json"]').textContent);
  const part = name => section.querySelector(name);
  const parts = {say: part('.say'), live: part('.live'), tasks: part('.by-task')};
  const first = Object.fromEntries(Object.entries(parts).map(([k, node]) => [k, node && node.innerHTML]));
  const number = section.dataset.number, suffix = number === '1' ? '' : '.' + number;
  return {section, data, parts, first, suffix, form: part('.choose'), state: part('.state')};
}

const allTasks = data => data.tasks.map((_, t) => t);
const isFirst = (data, view) => view.base === data.baseline && view.tasks.length === data.tasks.length;

function linesOf(data, view) {
  const several = view.tasks.length > 1;
  const columns = [...view.tasks.map(t => [t]), ...several ? [view.tasks] : []];
  const gaps = differencesTo(data, view.base, columns), top = topGroup(data, view.tasks);
  const timed = data.rows.some(row => row.seconds.some(s => s !== null));
  const lines = data.rows.map((row, i) => {
    const score = averageOf(row, view.tasks), seconds = view.tasks.map(t => row.seconds[t]);
    return {
      row: i, name: row.name, size: row.size, trainable: row.trainable, score,
      tied: top && score !== null ? top.has(i) : null, isBaseline: i === view.base,
      gap: gaps.get(i + ' ' + (columns.length - 1)) || null, seeds: seedsText(row, view.tasks),
      seconds: !timed || seconds.includes(null) ? null : sum(seconds),
    };
  });
  lines.sort((p, q) => (q.score === null ? -Infinity : q.score) - (p.score === null ? -Infinity : p.score) || 0);
  const tested = [...gaps.values()].filter(gap => gap.p !== null).length;
  return {lines, gaps, columns, tested, timed};
}

function seedsText(row, tasks) {
  const seeds = Object.keys(row.scores[tasks[0]]).filter(s => tasks.every(t => s in row.scores[t]));
  const planned = Math.max(...row.planned);
  return seeds.length === planned ? String(planned) : `${seeds.length}/${planned}`;
}

function sentenceOf(data, view, {lines, tested}) {
  const where = view.tasks.length > 1 ? 'the average of ' + listed(view.tasks.map(t => data.tasks[t]))
    : data.tasks[view.tasks[0]];
  if (view.base === null) return `No baseline is chosen; ranked by ${where}.`;
  const base = data.rows[view.base].name, claimed = lines.filter(line => line.gap && line.gap.claimed);
  const side = (holds, word) => {
    const names = claimed.filter(line => holds(line.gap.mean)).map(line => line.name);
    return names.length ? [`${listed(names)} ${word} ${base}`] : [];
  };
  const sides = [...side(m => m > 0, 'above'), ...side(m => m < 0, 'below')];
  const test = `(interval and test, adjusted for all ${tested} differences, both exclude zero)`;
  if (sides.length) return `On ${where}, the seeds set ${listed(sides)} ${test}.`;
  return `On ${where}, the seeds separate no row from ${base}.`;
}

function ranksText(data, view, {lines, timed}, axis) {
  const head = name => `<th scope="col"><button>${escaped(name)}</button></th>`;
  const base = view.base === null ? '–' : data.rows[view.base].name;
  const score = view.tasks.length > 1 ? 'average' : data.tasks[view.tasks[0]];
  return '<table class="ranks">\n<thead><tr>' + head('method') + head(score)
    + `<th scope="col" class="gap"><button>difference to ${escaped(base)}</button>${axisStrip(axis)}</th>`
    + head('seeds') + head('trainable') + (timed ? head('seconds') : '') + '</tr></thead>\n<tbody>\n'
    + lines.map((line, i) => rowText(line, i, axis, timed)).join('') + '</tbody></table>\n';
}

function legendText({lines, tested}, axis) {
  const parts = ['Scores in percent, differences in points with 95 % intervals, paired by seed.'];
  parts.push(lines.some(line => line.tied)
    ? 'Top group (a bar at the left): the rows that the seeds do not set below another.'
    : 'No top group: the seeds are too few to set any row below another.');
  if (lines.some(line => line.gap && line.gap.claimed)) parts.push('Filled and bold: interval and test,'
    + ` adjusted for all ${tested} differences of the table, both exclude zero.`);
  const ends = lines.filter(line => line.gap).flatMap(line => [line.gap.mean, ...line.gap.interval || []]);
  if (ends.some(end => axis.beyond(100 * end)))
    parts.push('An arrow is a difference, or the end of an interval, beyond the axis.');
  return `<p class="legend soft">${escaped(parts.join(' '))}</p>\n`;
}

function byTaskText(data, view, {lines, gaps, columns}) {
  const names = columns.map(tasks => tasks.length > 1 ? 'average' : data.tasks[tasks[0]]);
  const heads = ['method', ...names].map(name => `<th scope="col"><button>${escaped(name)}</button></th>`);
  const rows = lines.filter(line => !line.isBaseline).map(line => `<tr><td data-v="${escaped(line.name)}">`
    + escaped(line.name) + '</td>' + columns.map((_, c) => cellText(gaps.get(line.row + ' ' + c))).join('')
    + '</tr>\n');
  return `<h2>Difference to ${escaped(data.rows[view.base].name)}</h2>\n<div class="wide"><table>\n`
    + `<thead><tr>${heads.join('')}</tr></thead>\n<tbody>\n${rows.join('')}</tbody></table></div>\n`
    + '<ul class="notes"><li>Points, paired by seed; 95 % BCa intervals from five seeds on.</li>\n'
    + '<li>Bold: interval and step-down max-T test over joint sign flips, adjusted for all differences'
    + ' shown, both exclude zero.</li></ul>\n';
}

function cellText(gap) {
  if (!gap) return '<td>–</td>';
  const text = differenceText(gap), ends = gap.interval || ['', ''];
  return `<td${valueOf(gap.mean)} data-low="${ends[0]}" data-high="${ends[1]}" data-p="${gap.p === null ? '' : gap.p}"`
    + ` title="${pairsText(gap)}">${gap.claimed ? `<b>${text}</b>` : text}</td>`;
}

function show(board, view) {
  const {data, parts, first, form, state} = board, isBack = isFirst(data, view);
  board.view = view;
  form.querySelector('select').value = view.base === null ? '' : String(view.base);
  for (const box of form.querySelectorAll('input')) box.checked = view.tasks.includes(+box.value);
  form.querySelector('.back').hidden = state.hidden = isBack;
  if (isBack) {
    for (const name in parts) if (parts[name]) parts[name].innerHTML = first[name];
    return;
  }
  const computed = linesOf(data, view), axis = gapScale(computed.lines);
  const pictures = COSTS.map(([cost, label]) => scatter(computed.lines, cost, label)).filter(Boolean);
  parts.say.textContent = sentenceOf(data, view, computed);
  parts.live.innerHTML = ranksText(data, view, computed, axis) + legendText(computed, axis)
    + `<div class="costs">${pictures.map(picture => `<figure>${picture}</figure>`).join('')}</div>`;
  if (parts.tasks) parts.tasks.innerHTML = view.base === null ? '' : byTaskText(data, view, computed);
  state.textContent = 'These figures were recomputed in this browser from the scores in the page, by the'
    + ' same statistics with fewer draws (20,000 sign flips, or all where they are fewer).';
}

function chosen(board, text) {  // the view that an address names; what it does not know stays as it was first
  const {data, suffix} = board, view = {base: data.baseline, tasks: allTasks(data)};
  for (const part of text.replace(/^#/, '').split('&')) {
    const [key, value = ''] = part.split('=');
    let names;
    try { names = value.split(',').map(decodeURIComponent); } catch { continue; }
    const row = data.rows.findIndex(one => one.name === names[0]);
    if (key === 'baseline' + suffix && row >= 0) view.base = row;
    const tasks = allTasks(data).filter(t => names.includes(data.tasks[t]));
    if (key === 'tasks' + suffix && tasks.length) view.tasks = tasks;
  }
  return view;
}

function addressOf(boards) {
  const parts = boards.flatMap(({data, view, suffix}) => [
    ...view.base === data.baseline ? []
      : [`baseline${suffix}=${encodeURIComponent(data.rows[view.base].name)}`],
    ...view.tasks.length === data.tasks.length ? []
      : [`tasks${suffix}=${view.tasks.map(t => encodeURIComponent(data.tasks[t])).join(',')}`],
  ]);
  return parts.length ? '#' + parts.join('&') : location.pathname + location.search;
}

function download(board) {  // the rows as they are shown, as CSV
  const number = value => value === undefined || value === '' ? '' : value;
  const text = value => {
    const safe = /^\s*[=+\-@＝＋－＠]/.test(value) && !/^-?[\d.]+$/.test(value) ? "'" + value : value;
    return /[",\n]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
  };
  const rows = [...board.section.querySelectorAll('.ranks tbody tr')].map(row => {
    const [name, score, gap, , trainable, seconds] = [...row.cells].map(cell => cell.dataset.v);
    const {low, high, p, tied} = row.dataset, seeds = row.cells[3].textContent;
    return [text(name), ...[score, tied, gap, low, high, p, seeds, trainable, seconds].map(number)].join(',');
  });
  const head = 'method,score,top_group,difference,low,high,adjusted_p,seeds,trainable,seconds';
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([[head, ...rows].join('\n') + '\n'], {type: 'text/csv'}));
  link.download = 'leaderboard.csv';
  link.click();
}

const boards = [...document.querySelectorAll('section.board')].map(boardOf);
for (const board of boards) {
  const {data, form} = board;
  const change = view => {
    show(board, view);
    history.replaceState(null, '', addressOf(boards));
  };
  form.hidden = false;
  form.onsubmit = event => event.preventDefault();
  form.onchange = () => {
    const value = form.querySelector('select').value;
    const boxes = [...form.querySelectorAll('input')];
    const tasks = boxes.filter(box => box.checked).map(box => +box.value);
    const kept = !boxes.length ? allTasks(data) : tasks.length ? tasks : board.view.tasks;
    change({base: value === '' ? data.baseline : +value, tasks: kept});
  };
  form.onreset = event => {
    event.preventDefault();
    change({base: data.baseline, tasks: allTasks(data)});
  };
  form.querySelector('.download').onclick = () => download(board);
  show(board, chosen(board, location.hash));
}
window.onhashchange = () => boards.forEach(board => show(board, chosen(board, location.hash)));
