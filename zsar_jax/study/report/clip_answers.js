// Lists all clips of a data set with the answers of two runs or recipes, filters them, and shows
// what every run said about the selected clip. clip_answers.py describes the packed answers. Names
// are foreign: they are only ever set as text.
'use strict';
(() => {
  const RIGHT = 0, NOT_COUNTED = 1, NO_ANSWER = 2, WRONG = 3, NONE = 0xffff;
  const OUTCOMES = {
    any: 'any answer',
    right: 'right',
    wrong: 'wrong',
    background: 'the class of the background clip',
    uncounted: 'not counted',
  };

  async function unpack(text) {
    const packed = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream('deflate'));
    const buffer = await new Response(stream).arrayBuffer();
    const length = new DataView(buffer).getUint32(0, true);
    const data = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
    data.count = data.ids.length;
    let start = 4 + length;
    const take = (type) => {
      const array = new type(buffer, start, data.count);
      start += array.byteLength;
      return array;
    };
    data.labels = take(Uint16Array);
    data.partners = take(Uint16Array);
    data.values = data.attributes.map(() => take(Uint16Array));
    const type = data.bytes === 1 ? Uint8Array : Uint16Array;
    data.answers = data.runs.map(() => data.recipes.map(() => take(type)));
    return data;
  }

  function make(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  }

  const isolated = (text) => make('bdi', {}, text);

  function select(label, options, value, change) {
    const list = make('select', {});
    for (const [key, text] of options) list.append(make('option', { value: key }, text));
    list.value = value;
    list.addEventListener('change', change);
    return { list, element: make('label', {}, make('span', {}, label), list) };
  }

  const counted = (number) => number.toLocaleString('en').replaceAll(',', '\u202f');

  function explorer(root, data) {
    const id = root.id;
    const indexed = (names) => names.map((name, index) => [index, name]);
    const runs = indexed(data.runs), recipes = indexed(data.recipes);
    const baseline = Math.max(0, data.runs.indexOf(data.baseline));
    const main = Math.max(0, data.recipes.indexOf(data.main));
    const background = data.recipes.indexOf(data.background);
    const swaps = new Set(data.swaps);
    const outcomes = Object.entries(OUTCOMES).filter(([key]) => key !== 'background' || swaps.size);

    // Two conditions on answers.
    const conditions = [main, background < 0 ? main : background].map((recipe, number) => {
      const parts = {
        run: select('run', runs, baseline, update),
        recipe: select('under the recipe', recipes, recipe, update),
        outcome: select('answers', outcomes, 'any', update),
      };
      const legend = make('legend', {}, number ? 'and' : 'Clips where');
      const fields = Object.values(parts).map((part) => part.element);
      return { ...parts, element: make('fieldset', {}, legend, ...fields) };
    });
    function choose(...choices) {
      choices.forEach(([recipe, outcome], number) => {
        const { run, recipe: field, outcome: result } = conditions[number];
        if (number) run.list.value = conditions[0].run.list.value;
        field.list.value = recipe;
        result.list.value = outcome;
      });
      update();
    }
    const presets = [['All clips', () => {
      for (const { list } of [classes, ...attributes]) list.value = '';
      text.value = '';
      choose([main, 'any'], [background < 0 ? main : background, 'any']);
    }]];
    if (background >= 0) {
      presets.push(
        ['Right, but wrong with the background painted', () => choose([main, 'right'], [background, 'wrong'])],
        ['Wrong, but right with the background painted', () => choose([main, 'wrong'], [background, 'right'])],
      );
    }
    const swap = data.recipes.findIndex((recipe) => swaps.has(recipe));
    if (swap >= 0) {
      presets.push(['Follows a swapped background', () => choose([main, 'any'], [swap, 'background'])]);
    }
    const buttons = presets.map(([label, act]) => {
      const button = make('button', { type: 'button' }, label);
      button.addEventListener('click', act);
      return button;
    });

    // Conditions on the clip.
    const all = ['', 'any'];
    const order = data.classes.map((name, index) => [index, name])
      .sort((a, b) => a[1].localeCompare(b[1]));
    const classes = select('class', [all, ...order], '', update);
    const attributes = data.attributes.map(([name, values]) => {
      const options = values.map((value, index) => [index, value || 'unknown']);
      return select(name, [all, ...options], '', update);
    });
    const text = make('input', { type: 'search', spellcheck: 'false' });
    text.addEventListener('input', update);
    const clip = make('fieldset', {}, make('legend', {}, 'of the clips with'), classes.element,
      ...attributes.map((attribute) => attribute.element),
      make('label', {}, make('span', {}, 'id that contains'), text));

    // The list, of which only the rows in view exist.
    const status = make('p', { role: 'status', class: 'count' });
    const heads = conditions.map(() => make('span', {}));
    const head = make('div', { class: 'row head', 'aria-hidden': 'true' },
      make('span', {}, 'class, clip'), ...heads);
    const rows = make('div', { class: 'rows' });
    const list = make('div', {
      class: 'list', role: 'listbox', tabindex: '0', id: `${id}-box`, 'aria-label': 'Clips',
    }, rows);
    const details = make('div', { class: 'details', role: 'region', 'aria-label': 'Selected clip' });
    root.append(make('div', { class: 'presets' }, ...buttons),
      ...conditions.map((condition) => condition.element), clip, status, head, list, details);

    let shown = [], selected = 0, height = 1;

    function answersOf({ run, recipe }) {
      return data.answers[run.list.value][recipe.list.value];
    }

    function keep(index, { outcome }, answers) {
      const answer = answers[index];
      switch (outcome.list.value) {
        case 'right': return answer === RIGHT;
        case 'wrong': return answer === NO_ANSWER || answer >= WRONG;
        case 'uncounted': return answer === NOT_COUNTED;
        case 'background':
          return data.partners[index] !== NONE && answer === WRONG + data.partners[index];
        default: return true;
      }
    }

    function update() {
      const answers = conditions.map(answersOf);
      const label = classes.list.value === '' ? -1 : Number(classes.list.value);
      const needed = attributes.map(({ list: { value } }, index) => [data.values[index], value])
        .filter(([, value]) => value !== '').map(([values, value]) => [values, Number(value)]);
      const part = text.value.toLowerCase();
      shown = [];
      for (let index = 0; index < data.count; index++) {
        if (label >= 0 && data.labels[index] !== label) continue;
        if (!keep(index, conditions[0], answers[0])) continue;
        if (!keep(index, conditions[1], answers[1])) continue;
        if (!needed.every(([values, value]) => values[index] === value)) continue;
        if (part && !data.ids[index].toLowerCase().includes(part)) continue;
        shown.push(index);
      }
      const share = (100 * shown.length / data.count).toFixed(1);
      status.textContent = `${counted(shown.length)} of ${counted(data.count)} clips (${share}\u00a0%)`;
      conditions.forEach(({ run, recipe }, number) => {
        heads[number].replaceChildren(isolated(data.runs[run.list.value]), ' under ',
          isolated(data.recipes[recipe.list.value]));
      });
      height = parseFloat(getComputedStyle(list).getPropertyValue('--row')) *
        parseFloat(getComputedStyle(document.documentElement).fontSize);
      rows.style.height = `${shown.length * height}px`;
      selected = 0;
      list.scrollTop = 0;
      draw();
      showDetails();
    }

    function answer(code, label, partner) {
      if (code === NOT_COUNTED) return make('span', { class: 'none' }, 'not counted');
      const right = code === RIGHT;
      const box = make('span', { class: right ? 'right' : 'wrong' },
        make('b', {}, right ? '\u2713' : '\u2717'), ' ');
      if (code === NO_ANSWER) box.append('no answer: logits are not finite');
      else box.append(isolated(data.classes[right ? label : code - WRONG]));
      if (!right && partner !== NONE && code === WRONG + partner) {
        box.append(make('small', {}, ' class of the background'));
      }
      return box;
    }

    function answerOf(run, recipe, index) {
      const partner = swaps.has(data.recipes[recipe]) ? data.partners[index] : NONE;
      return answer(data.answers[run][recipe][index], data.labels[index], partner);
    }

    function draw() {
      const first = Math.max(0, Math.floor(list.scrollTop / height) - 5);
      const last = Math.min(shown.length, first + Math.ceil(list.clientHeight / height) + 10);
      const drawn = [];
      for (let position = first; position < last; position++) {
        const index = shown[position];
        const row = make('div', {
          class: 'row', role: 'option', id: `${id}-${position}`, 'aria-setsize': shown.length,
          'aria-posinset': position + 1, 'aria-selected': position === selected,
        }, make('span', {}, isolated(data.classes[data.labels[index]]), ' ',
          make('small', {}, isolated(data.ids[index]))),
        ...conditions.map(({ run, recipe }) => answerOf(run.list.value, recipe.list.value, index)));
        row.style.top = `${position * height}px`;
        row.addEventListener('click', () => pick(position));
        drawn.push(row);
      }
      rows.replaceChildren(...drawn);
      if (shown.length) list.setAttribute('aria-activedescendant', `${id}-${selected}`);
      else list.removeAttribute('aria-activedescendant');
    }

    function pick(position) {
      selected = Math.max(0, Math.min(shown.length - 1, position));
      const top = selected * height;
      if (top < list.scrollTop) list.scrollTop = top;
      const bottom = top + height - list.clientHeight;
      if (bottom > list.scrollTop) list.scrollTop = bottom;
      draw();
      showDetails();
    }

    function showDetails() {
      if (!shown.length) {
        details.replaceChildren();
        return;
      }
      const index = shown[selected];
      const facts = data.attributes.flatMap(([name, values], number) => {
        const value = values[data.values[number][index]];
        return value ? [make('span', {}, isolated(name), ': ', isolated(value))] : [];
      });
      const partner = data.partners[index];
      if (partner !== NONE) {
        facts.push(make('span', {}, 'swapped background: from a clip of ',
          isolated(data.classes[partner])));
      }
      const table = make('table', { class: 'plain' }, make('thead', {}, make('tr', {},
        make('th', { scope: 'col' }, 'recipe'),
        ...data.runs.map((run) => make('th', { scope: 'col' }, isolated(run))))),
      make('tbody', {}, ...data.recipes.map((recipe, number) => make('tr', {},
        make('th', { scope: 'row' }, isolated(recipe)),
        ...data.runs.map((_, run) => make('td', {}, answerOf(run, number, index)))))));
      const title = make('h4', {}, isolated(data.classes[data.labels[index]]), ' ',
        make('small', { class: 'id' }, isolated(data.ids[index])));
      const parts = [title, make('p', { class: 'facts' }, ...facts)];
      const picture = document.getElementById(id.replace(/^clips-(\d+)-list$/, 'gallery-$1'))
        ?.querySelector(`.clip[data-clip="${CSS.escape(data.ids[index])}"]`);
      if (picture) {
        const link = make('a', { href: `#${picture.id}` }, 'Its frames');
        link.addEventListener('click', () => { picture.open = true; });
        parts.push(make('p', {}, link));
      }
      details.replaceChildren(...parts,
        make('div', { class: 'scroll', tabindex: '0' }, table));
    }

    list.addEventListener('scroll', () => requestAnimationFrame(draw));
    list.addEventListener('keydown', (event) => {
      const page = Math.max(1, Math.floor(list.clientHeight / height) - 1);
      const target = {
        ArrowDown: selected + 1, ArrowUp: selected - 1, PageDown: selected + page,
        PageUp: selected - page, Home: 0, End: shown.length - 1,
      }[event.key];
      if (target === undefined || !shown.length) return;
      event.preventDefault();
      pick(target);
    });
    update();
    root.dataset.ready = data.count;
  }

  async function start(root) {
    try {
      explorer(root, await unpack(document.getElementById(root.dataset.pack).textContent));
    } catch (error) {
      root.append(make('p', { class: 'note' }, `This list cannot be shown (${error}).`));
    }
  }

  // A list is unpacked when it comes near the window.
  const observer = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting) {
        observer.unobserve(target);
        start(target);
      }
    }
  }, { rootMargin: '800px' });
  for (const root of document.querySelectorAll('.explorer')) observer.observe(root);
})();
