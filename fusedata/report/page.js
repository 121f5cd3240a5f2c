/* The list of pairs, its filters, and the pair that is chosen. Only the rows in sight are elements. */
const data = JSON.parse(document.getElementById("data").textContent);
const { columns, names, texts } = data;
const ROW = 44;
const $ = (id) => document.getElementById(id);
const gap = (place) => columns.chosen_reward[place] - columns.rejected_reward[place];
const name = (kind, at) => (at === null || at === undefined ? "–" : names[kind][at]);
const shown = (value) => (value === null || value === undefined || Number.isNaN(value) ? "–" : value.toFixed(4));
let places = [], active = 0;

function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function options(select, kind) {
  names[kind].forEach((text, at) => { const made = element("option", text); made.value = at; select.append(made); });
}

const content = (turns) => (turns || []).map((turn) => turn.content || "").join("\n");

function opening(place) {
  const text = texts[place];
  return text ? content(text.prompt).slice(0, 160).replace(/\s+/g, " ") : `${columns.id[place]} (numbers only)`;
}

function filter() {
  const wanted = { corpus: $("corpus").value, source_model: $("model").value, split: $("split").value };
  const needle = $("search").value.trim().toLowerCase();
  const bounds = [$("low").value, $("high").value].map((value) => (value === "" ? null : Number(value)));
  const matches = (place) => Object.entries(wanted).every(([column, at]) => at === "" || columns[column][place] === Number(at))
    && (bounds[0] === null || gap(place) >= bounds[0] - 1e-9) && (bounds[1] === null || gap(place) <= bounds[1] + 1e-9)
    && (!$("texts").checked || texts[place])
    && (!needle || columns.id[place].startsWith(needle) || (texts[place] && found(texts[place], needle)));
  places = [];
  for (let place = 0; place < data.total; place += 1) if (matches(place)) places.push(place);
  sort();
  $("found").textContent = `${places.length.toLocaleString("en")} of ${data.total.toLocaleString("en")} pairs`;
  $("space").style.height = `${places.length * ROW}px`;
  $("list").scrollTop = 0;
  choose(0);
}

function found(text, needle) {
  return ["prompt", "chosen", "rejected"].some((part) => content(text[part]).toLowerCase().includes(needle));
}

function sort() {
  const longer = (place) => columns.chosen_completion_tokens[place] - columns.rejected_completion_tokens[place];
  const keys = { high: (p) => -gap(p), low: gap, longer: (p) => -longer(p), shorter: longer }[$("order").value];
  if (keys) places.sort((a, b) => keys(a) - keys(b));
  else places.sort((a, b) => (b in texts) - (a in texts));
}

function draw() {
  const first = Math.max(0, Math.floor($("list").scrollTop / ROW) - 4);
  const last = Math.min(places.length, first + Math.ceil($("list").clientHeight / ROW) + 8);
  const rows = [];
  for (let at = first; at < last; at += 1) {
    const place = places[at];
    const made = element("div", undefined, "pair");
    made.id = `pair-${at}`;
    made.setAttribute("role", "option");
    made.setAttribute("aria-selected", at === active);
    made.setAttribute("aria-setsize", places.length);
    made.setAttribute("aria-posinset", at + 1);
    made.style.top = `${at * ROW}px`;
    made.append(element("b", opening(place)), element("span", `gap ${shown(gap(place))} · ${name("model", columns.source_model[place])}`));
    made.addEventListener("click", () => choose(at));
    rows.push(made);
  }
  $("space").replaceChildren(...rows);
}

function choose(at) {
  active = Math.min(Math.max(at, 0), Math.max(places.length - 1, 0));
  const list = $("list"), top = active * ROW;
  if (top < list.scrollTop) list.scrollTop = top;
  if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  draw();
  if (places.length) list.setAttribute("aria-activedescendant", `pair-${active}`);
  else list.removeAttribute("aria-activedescendant");
  detail(places[active]);
}

function detail(place) {
  const shownPair = $("detail");
  if (place === undefined) { shownPair.replaceChildren(element("p", "No pair fits the filters.")); return; }
  const text = texts[place];
  const facts = `${columns.id[place]} · ${name("corpus", columns.corpus[place])} · ${name("split", columns.split[place])} · gap ${shown(gap(place))}`;
  const sides = element("div", undefined, "sides");
  const tokens = text ? ["chosen", "rejected"].map((side) => cut(content(text[side]))) : [];
  if (text && $("marks").checked) compare(...tokens);
  ["chosen", "rejected"].forEach((side, at) => {
    const article = element("article", undefined, side);
    const model = columns[side === "chosen" ? "source_model" : "rejected_source_model"][place];
    article.append(element("h3", `${side} · reward ${shown(columns[`${side}_reward`][place])}`));
    const verdict = name("verdict", columns[`${side}_verdict`][place]);
    const length = columns[`${side}_completion_tokens`][place];
    article.append(element("p", `${name("model", model)} · ${verdict} · ${length === null ? "–" : length} tokens`, "facts"));
    if (text) article.append(show(tokens[at], at ? "del" : "ins"));
    sides.append(article);
  });
  const prompt = element("div", undefined, "prompt");
  if (text) text.prompt.forEach((turn) => prompt.append(element("h4", turn.role), show(cut(turn.content || ""), "ins")));
  else prompt.append(element("p", "The text of this pair is not in this page; write it with --pairs for more."));
  shownPair.replaceChildren(element("p", facts, "facts"), prompt, sides);
  shownPair.scrollTop = 0;
}

$("list").addEventListener("scroll", draw, { passive: true });
$("list").addEventListener("keydown", (event) => {
  const page = Math.max(1, Math.floor($("list").clientHeight / ROW) - 1);
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -places.length, End: places.length };
  if (event.key in steps) { event.preventDefault(); choose(active + steps[event.key]); }
  if (event.key === "Enter") $("detail").focus();
});
addEventListener("keydown", (event) => {
  if (event.key === "/" && !/INPUT|SELECT/.test(event.target.tagName)) { event.preventDefault(); $("search").focus(); }
  if (event.key === "Escape" && event.target !== document.body) $("list").focus();
});
addEventListener("resize", draw);
for (const id of ["corpus", "model", "split", "order", "texts", "low", "high", "search"]) $(id).addEventListener("input", filter);
$("marks").addEventListener("input", () => detail(places[active]));
$("theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).colorScheme.includes("dark")
    && (document.documentElement.dataset.theme === "dark" || matchMedia("(prefers-color-scheme: dark)").matches);
  const theme = document.documentElement.dataset.theme || (dark ? "dark" : "light");
  document.documentElement.dataset.theme = theme === "dark" ? "light" : "dark";
});
options($("corpus"), "corpus");
options($("model"), "model");
options($("split"), "split");
if (data.total) filter();
