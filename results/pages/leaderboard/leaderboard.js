// Recomputes a leaderboard for a chosen baseline and tasks, and keeps the choice in the address.
const COSTS = [['trainable', 'trainable parameters'], ['seconds', 'training seconds']];
const MOST = 5;  // names in a list

function boardOf(section) {
  const data = JSON.parse(section.querySelector('script[type="application/json"]').textContent);
  const part = name => section.querySelector(name);
  const parts = {say: part('.say'), live: part('.live'), tasks: part('.by-task')};
  const first = Object.fromEntries(Object.entries(parts).map(([k, node]) => [k, node && node.innerHTML]));
  const number = section.dataset.number, suffix = number === '1' ? '' : '.' + number, form = part('.choose');
  const ticked = [...form.querySelectorAll('input')].filter(box => box.defaultChecked).map(box => +box.value);
  data.counted = ticked.length ? ticked : allTasks(data);  // the others are slices of their rows
  return {section, data, parts, first, suffix, form, state: part('.state')};
}

const allTasks = data => data.tasks.map((_, t) => t);
const hasFirstTasks = ({counted}, {tasks}) => tasks.length === counted.length && tasks.every(t => counted.includes(t));
const isFirst = (data, view) => view.base === data.baseline && hasFirstTasks(data, view);

function averaged(data, {tasks}) {  // the chosen tasks without slices, unless nothing else is chosen
  const kept = tasks.filter(t => data.counted.includes(t));
  return kept.length ? kept : tasks;
}

function linesOf(data, view) {
  const own = averaged(data, view), several = own.length > 1;
  const columns = [...view.tasks.map(t => [t]), ...several ? [own] : []];
  const lead = several ? columns.length - 1 : view.tasks.indexOf(own[0]);
  const gaps = differencesTo(data, view.base, columns), top = topGroup(data, own);
  const timed = data.rows.some(row => row.seconds.some(s => s !== null));
  const lines = data.rows.map((row, i) => {
    const score = averageOf(row, own), seconds = own.map(t => row.seconds[t]);
    return {
      row: i, name: row.name, size: row.size, trainable: row.trainable, score,
      tied: top && score !== null && !top.untested.has(i) ? top.group.has(i) : null, isBaseline: i === view.base,
      gap: gaps.get(i + ' ' + lead) || null, seeds: seedsText(row, own),
      collapsed: sum(own.map(t => row.collapsed[t])),
      seconds: !timed || seconds.includes(null) ? null : sum(seconds),
    };
  });
  lines.sort((p, q) => (q.score === null ? -Infinity : q.score) - (p.score === null ? -Infinity : p.score) || 0);
  const tested = [...gaps.values()].filter(gap => gap.p !== null).length;
  return {lines, gaps, columns, tested, timed, besideBest: top ? top.besideBest.size : 0};
}

function seedsText(row, tasks) {
  const seeds = Object.keys(row.scores[tasks[0]]).filter(s => tasks.every(t => s in row.scores[t]));
  const planned = Math.max(...row.planned);
  return seeds.length === planned ? String(planned) : `${seeds.length}/${planned}`;
}

// The sentences of results/pages/headline.py.
function sentenceOf(data, view, computed) {
  return [bestText(data, view, computed), besideText(data, view, computed)].filter(Boolean).join(' ');
}

function whereText(data, view) {
  const own = averaged(data, view);
  return own.length > 1 ? `the average of ${own.length} tasks` : data.tasks[own[0]];
}

function bestText(data, view, {lines, besideBest}) {
  const scored = lines.filter(line => line.score !== null), [best] = scored, others = scored.length - 1;
  if (!best) return '';
  const where = whereText(data, view);
  const score = fixedText(100 * best.score, 1);
  if (!others) return `${best.name} has ${score} on ${where}; it is alone.`;
  const text = `${best.name} is best on ${where} (${score})`, tested = scored.filter(line => line.tied !== null);
  if (!tested.length) return `${text}, by too few seeds to set anything apart.`;
  if (best.tied === null) return `${text}, by too few seeds of its own to be set apart.`;
  if (!best.tied) return `${text}, and set below another row by the seeds that both have.`;
  const few = scored.length - tested.length;
  const left = few ? `; ${few} ${few === 1 ? 'has' : 'have'} too few seeds to tell` : '';
  if (!besideBest) return `${text}, and set apart from all others${few ? ' that have the seeds' : ''}${left}.`;
  return `${text}, but ${besideBest} of the ${tested.length - 1} other rows cannot be told from the best${left}.`;
}

function besideText(data, view, {lines, tested}) {
  const compared = lines.filter(line => line.gap);
  if (view.base === null || !compared.length) return '';
  const base = data.rows[view.base].name;
  const able = compared.filter(({gap}) => gap.p !== null);
  if (!able.length) return `No row has the seeds to be told from ${base}.`;
  const apart = able.filter(line => line.gap.claimed);
  const test = tested > 1 ? `, by a test over ${tested} comparisons with it` : '';
  if (!apart.length) return `No row is shown to differ from ${base} on ${whereText(data, view)}${test}.`;
  const side = (word, rows) => rows.length ? [`${word} ${base}: ${namedText(rows)}`] : [];
  const text = [...side('above', apart.filter(line => line.gap.mean > 0)),
    ...side('below', apart.filter(line => line.gap.mean < 0))].join('; ');
  const rest = compared.length - apart.length;
  return text[0].toUpperCase() + text.slice(1) + (rest ? `; ${rest} cannot be told from it` : '') + '.';
}

function namedText(lines) {
  const largest = [...lines].sort((p, q) => Math.abs(q.gap.mean) - Math.abs(p.gap.mean));
  const each = largest.slice(0, MOST).map(line => `${line.name} (${pointsText(line.gap.mean)})`);
  return [...each, ...lines.length > MOST ? [`${lines.length - MOST} more`] : []].join(', ');
}

function ranksText(data, view, {lines, timed}, axis) {
  const head = name => `<th scope="col"><button>${escaped(name)}</button></th>`;
  const base = view.base === null ? 'a baseline' : data.rows[view.base].name;
  const own = averaged(data, view), score = own.length > 1 ? 'average' : data.tasks[own[0]];
  return '<table class="ranks">\n<thead><tr>' + head('method') + head(score)
    + `<th scope="col" class="gap"><button>difference to ${escaped(base)}</button>${axisStrip(axis)}</th>`
    + head('seeds') + head('trainable') + (timed ? head('seconds') : '') + '</tr></thead>\n<tbody>\n'
    + lines.map((line, i) => rowText(line, i, axis, timed)).join('') + '</tbody></table>\n';
}

function legendText(data, {lines, tested}, axis) {
  const parts = ['Scores in percent, differences in points, paired by seed, with 95 % intervals from five seeds on.'];
  parts.push(lines.some(line => line.tied)
    ? 'Top group (a bar at the left): the rows that the seeds do not set below another.'
    : 'No top group: the seeds are too few to set any row below another.');
  if (lines.some(line => line.gap && line.gap.claimed)) parts.push('Filled and bold: interval and test,'
    + ` adjusted for all ${tested} differences that have the seeds, both exclude zero.`);
  if (lines.some(line => line.collapsed))
    parts.push('†: runs that score no better than always answering the majority class.');
  const ends = lines.filter(line => line.gap).flatMap(line => [line.gap.mean, ...line.gap.interval || []]);
  if (ends.some(end => axis.beyond(100 * end)))
    parts.push('An arrow is a difference, or the end of an interval, beyond the axis.');
  if (data.untimed) parts.push(data.untimed);
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
  parts.live.innerHTML = ranksText(data, view, computed, axis) + legendText(data, computed, axis)
    + `<div class="costs">${pictures.map(picture => `<figure>${picture}</figure>`).join('')}</div>`;
  if (parts.tasks) parts.tasks.innerHTML = view.base === null ? '' : byTaskText(data, view, computed);
  state.textContent = 'These figures were recomputed in this browser from the scores in the page, by the'
    + ' same statistics with fewer draws (20,000 sign flips, or all where they are fewer).';
}

function chosen(board, text) {  // the view that an address names; what it does not know stays as it was first
  const {data, suffix} = board, view = {base: data.baseline, tasks: data.counted};
  for (const part of text.replace(/^#/, '').split('&')) {
    const end = part.indexOf('='), key = part.slice(0, end), value = part.slice(end + 1);
    if (end < 0) continue;
    let names, whole;
    try { [names, whole] = [value.split(',').map(decodeURIComponent), decodeURIComponent(value)]; } catch { continue; }
    const row = data.rows.findIndex(one => one.name === whole);
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
    ...hasFirstTasks(data, view) ? []
      : [`tasks${suffix}=${view.tasks.map(t => encodeURIComponent(data.tasks[t])).join(',')}`],
  ]);
  return parts.length ? '#' + parts.join('&') : location.pathname + location.search;
}

function download(board) {  // the rows as they are shown, as CSV, and what they are compared with, on what
  const {data, view} = board, base = view.base === null ? '' : data.rows[view.base].name;
  const number = value => value === undefined || value === '' ? '' : value;
  const text = value => {
    const safe = /^\s*[=+\-@＝＋－＠]/.test(value) && !/^-?[\d.]+$/.test(value) ? "'" + value : value;
    return /[",\n]/.test(safe) ? `"${safe.replace(/"/g, '""')}"` : safe;
  };
  const choice = [base, averaged(data, view).map(t => data.tasks[t]).join(' ')].map(text);
  const rows = [...board.section.querySelectorAll('.ranks tbody tr')].map(row => {
    const [name, score, gap, , trainable, seconds] = [...row.cells].map(cell => cell.dataset.v);
    const {low, high, p, tied} = row.dataset, [seeds, collapsed = 0] = row.cells[3].textContent.split(' †');
    const rest = [score, tied, gap, low, high, p, seeds, collapsed, trainable, seconds];
    return [text(name), ...rest.map(number), ...choice].join(',');
  });
  const head = 'method,score,top_group,difference,low,high,adjusted_p,seeds,collapsed_runs,trainable,seconds'
    + ',baseline,tasks';
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
    const kept = !boxes.length ? data.counted : tasks.length ? tasks : board.view.tasks;
    change({base: value === '' ? data.baseline : +value, tasks: kept});
  };
  form.onreset = event => {
    event.preventDefault();
    change({base: data.baseline, tasks: data.counted});
  };
  form.querySelector('.download').onclick = () => download(board);
  show(board, chosen(board, location.hash));
}
window.onhashchange = () => boards.forEach(board => show(board, chosen(board, location.hash)));
