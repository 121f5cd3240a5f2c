/* Texts in pieces (prose, code, formulas), and which pieces of two texts differ. */
const CELLS = 4e6;
const PIECES = /(```[^]*?(?:```|$))|(\$\$[^$]+\$\$|\\\[[^]+?\\\]|\\\([^]+?\\\)|\$(?![\s\d][^$\n]*\s\$)[^$\n]+\$|\\begin\{(align\*?|equation\*?|gather\*?)\}[^]+?\\end\{\3\})/g;

/* Cut a text into tokens: a word, blanks, a sign; in code alike; a formula is one token. */
function cut(text) {
  const tokens = [];
  const words = (part, kind) => {
    for (const token of part.match(/[\p{L}\p{N}_]+|\s+|[^]/gu) || []) tokens.push({ text: token, kind });
  };
  let at = 0;
  for (const found of text.matchAll(PIECES)) {
    words(text.slice(at, found.index), "prose");
    if (found[1] !== undefined) words(found[1], "code");
    else tokens.push({ text: found[0], kind: "formula" });
    at = found.index + found[0].length;
  }
  words(text.slice(at), "prose");
  return tokens;
}

/* Mark the tokens of each list that are not in the longest common run of both; too long ones are compared by lines. */
function compare(one, other) {
  let start = 0;
  while (start < one.length && start < other.length && one[start].text === other[start].text) start += 1;
  let end = 0;
  while (end < one.length - start && end < other.length - start
    && one[one.length - 1 - end].text === other[other.length - 1 - end].text) end += 1;
  const middles = [one.slice(start, one.length - end), other.slice(start, other.length - end)];
  const fits = middles[0].length * middles[1].length <= CELLS;
  const units = middles.map((tokens) => (fits ? tokens.map((token) => [token]) : lines(tokens)));
  const fitting = units[0].length * units[1].length <= CELLS;
  const kept = fitting ? common(...units.map((list) => list.map((unit) => unit.map((t) => t.text).join("")))) : [new Set(), new Set()];
  units.forEach((list, side) => list.forEach((unit, place) => unit.forEach((token) => { token.differs = !kept[side].has(place); })));
}

function lines(tokens) {
  const made = [[]];
  for (const token of tokens) {
    made[made.length - 1].push(token);
    if (token.text.includes("\n")) made.push([]);
  }
  return made;
}

function common(one, other) {
  const wide = other.length + 1;
  const lengths = new Uint16Array((one.length + 1) * wide);
  for (let i = one.length - 1; i >= 0; i -= 1) {
    for (let j = other.length - 1; j >= 0; j -= 1) {
      lengths[i * wide + j] = one[i] === other[j]
        ? lengths[(i + 1) * wide + j + 1] + 1
        : Math.max(lengths[(i + 1) * wide + j], lengths[i * wide + j + 1]);
    }
  }
  const kept = [new Set(), new Set()];
  for (let i = 0, j = 0; i < one.length && j < other.length;) {
    if (one[i] === other[j]) { kept[0].add(i); kept[1].add(j); i += 1; j += 1; }
    else if (lengths[(i + 1) * wide + j] >= lengths[i * wide + j + 1]) i += 1;
    else j += 1;
  }
  return kept;
}

/* Show tokens: text as text nodes, code in blocks, formulas as MathML or, beyond that, as their source. */
function show(tokens, mark) {
  const made = document.createElement("div");
  made.className = "text";
  let block = made, kind = "prose", marked = null;
  for (const token of tokens) {
    if (token.kind !== kind) {
      kind = token.kind;
      marked = null;
      block = made;
      if (kind === "code") { block = document.createElement("code"); made.append(block); }
    }
    const piece = kind === "formula" ? typeset(token.text) : document.createTextNode(token.text);
    if (!token.differs) { block.append(piece); marked = null; continue; }
    if (!marked || kind === "formula") { marked = document.createElement(mark); block.append(marked); }
    marked.append(piece);
  }
  return made;
}

function typeset(source) {
  const display = /^(\$\$|\\\[|\\begin)/.test(source);
  const inside = source.startsWith("\\begin") ? source : source.startsWith("$") && !source.startsWith("$$") ? source.slice(1, -1) : source.slice(2, -2);
  const made = formula(inside, display);
  if (made) return made;
  const shown = document.createElement("code");
  shown.className = "source";
  shown.textContent = source;
  return shown;
}
