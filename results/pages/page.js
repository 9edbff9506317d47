function sortBy(table, heads, i) {
  const body = table.tBodies[0], was = heads[i].getAttribute('aria-sort');
  const isText = [...body.rows].every(row => row.cells[i].dataset.v === undefined), byName = !i || isText;
  const first = byName ? 'ascending' : 'descending', other = byName ? 'descending' : 'ascending';
  const now = was === first ? other : first, sign = now === 'ascending' ? 1 : -1;
  const value = row => {
    const v = row.cells[i].dataset.v, text = row.cells[i].textContent;
    if (isText) return text === '–' ? null : text;  // such as a column of sentences
    return v === undefined ? null : i ? +v : v;
  };
  const order = (p, q) => {
    const x = value(p), y = value(q);
    if (isText && x !== null && y !== null) return sign * x.localeCompare(y, 'en', {numeric: true});
    return x === null ? (y === null ? 0 : 1) : y === null ? -1 : x < y ? -sign : x > y ? sign : 0;
  };
  heads.forEach(head => head.removeAttribute('aria-sort'));
  heads[i].setAttribute('aria-sort', now);
  body.append(...[...body.rows].sort(order));
}
// On the document, so that tables that come later can be sorted and filtered too.
document.addEventListener('click', event => {
  const head = event.target.closest('thead th');
  if (!head || !event.target.closest('button')) return;
  const heads = [...head.parentNode.cells];
  sortBy(head.closest('table'), heads, heads.indexOf(head));
});
document.addEventListener('input', event => {
  const field = event.target;
  if (field.type !== 'search') return;
  const wanted = field.value.toLowerCase();
  for (const row of document.getElementById(field.dataset.of).tBodies[0].rows)
    row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
});
