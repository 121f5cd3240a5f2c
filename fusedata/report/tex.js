"use strict";
/* LaTeX, as models write it, into MathML elements. What is not known here throws, and the page shows the source. */
const MATHML = "http://www.w3.org/1998/Math/MathML";
const LETTERS = {
  alpha: "α", beta: "β", gamma: "γ", delta: "δ", epsilon: "ϵ", varepsilon: "ε", zeta: "ζ", eta: "η", theta: "θ",
  vartheta: "ϑ", iota: "ι", kappa: "κ", lambda: "λ", mu: "μ", nu: "ν", xi: "ξ", pi: "π", rho: "ρ", sigma: "σ",
  tau: "τ", upsilon: "υ", phi: "ϕ", varphi: "φ", chi: "χ", psi: "ψ", omega: "ω", Gamma: "Γ", Delta: "Δ",
  Theta: "Θ", Lambda: "Λ", Xi: "Ξ", Pi: "Π", Sigma: "Σ", Upsilon: "Υ", Phi: "Φ", Psi: "Ψ", Omega: "Ω",
  infty: "∞", partial: "∂", nabla: "∇", ell: "ℓ", hbar: "ℏ", emptyset: "∅", varnothing: "∅", Re: "ℜ", Im: "ℑ",
  aleph: "ℵ", circ: "∘", degree: "°", imath: "ı", jmath: "ȷ", top: "⊤", bot: "⊥", checkmark: "✓", square: "□",
  triangle: "△", angle: "∠",
};
const SIGNS = {
  times: "×", cdot: "⋅", div: "÷", pm: "±", mp: "∓", ast: "∗", star: "⋆", bullet: "•", oplus: "⊕", otimes: "⊗",
  leq: "≤", le: "≤", leqslant: "⩽", geq: "≥", ge: "≥", geqslant: "⩾", neq: "≠", ne: "≠", approx: "≈", equiv: "≡",
  sim: "∼", simeq: "≃", cong: "≅", propto: "∝", ll: "≪", gg: "≫", to: "→", rightarrow: "→", leftarrow: "←",
  Rightarrow: "⇒", Leftarrow: "⇐", implies: "⟹", iff: "⟺", Leftrightarrow: "⇔", leftrightarrow: "↔",
  longrightarrow: "⟶", mapsto: "↦", in: "∈", notin: "∉", ni: "∋", subset: "⊂", subseteq: "⊆", supset: "⊃",
  supseteq: "⊇", cup: "∪", cap: "∩", setminus: "∖", land: "∧", wedge: "∧", lor: "∨", vee: "∨", neg: "¬", lnot: "¬",
  forall: "∀", exists: "∃", mid: "∣", nmid: "∤", parallel: "∥", perp: "⊥", dots: "…", ldots: "…", cdots: "⋯",
  vdots: "⋮", ddots: "⋱", therefore: "∴", because: "∵", prime: "′", lfloor: "⌊", rfloor: "⌋", lceil: "⌈",
  rceil: "⌉", langle: "⟨", rangle: "⟩", vert: "|", lvert: "|", rvert: "|", Vert: "‖", lVert: "‖", rVert: "‖",
  backslash: "\\", uparrow: "↑", downarrow: "↓", colon: ":", lbrace: "{", rbrace: "}", lbrack: "[", rbrack: "]",
  "{": "{", "}": "}", "|": "‖", "%": "%", "$": "$", "#": "#", "&": "&", _: "_",
};
const LARGE = {
  sum: "∑", prod: "∏", coprod: "∐", bigcup: "⋃", bigcap: "⋂", int: "∫", iint: "∬", iiint: "∭", oint: "∮",
};
const FUNCTIONS = new Set(("sin cos tan cot sec csc arcsin arccos arctan sinh cosh tanh log ln lg exp lim max min sup "
  + "inf det dim gcd lcm deg ker arg hom Pr liminf limsup").split(" "));
const ACCENTS = {
  hat: "^", widehat: "^", bar: "¯", overline: "¯", vec: "→", overrightarrow: "→", dot: "˙", ddot: "¨", tilde: "~",
  widetilde: "~", overbrace: "⏞",
};
const SPACES = { ",": 0.17, ":": 0.22, ";": 0.28, "!": -0.17, " ": 0.25, quad: 1, qquad: 2, thinspace: 0.17, "~": 0.25 };
const STYLES = { mathbb: "double-struck", mathbf: "bold", mathcal: "script", mathscr: "script", mathfrak: "fraktur" };
const UPRIGHT = new Set(["text", "textbf", "textit", "textrm", "texttt", "mathrm", "mathsf", "mathtt", "mathit",
  "operatorname", "mbox", "hbox", "textsf"]);
const IGNORED = new Set(["displaystyle", "textstyle", "scriptstyle", "limits", "nolimits", "left.", "right.", "hline",
  "nonumber", "notag", "rm", "bf", "it", "big", "Big", "bigg", "Bigg", "bigl", "bigr", "Bigl", "Bigr", "biggl",
  "biggr", "bigm", "allowbreak", "displaylimits"]);
const DEEPEST = 60;

function math(name, ...children) {
  const made = document.createElementNS(MATHML, name);
  made.append(...children);
  return made;
}

function row(children) {
  return children.length === 1 ? children[0] : math("mrow", ...children);
}

/* Give the <math> element of a formula, or null where it is beyond this reader. */
function formula(source, display) {
  try {
    const left = { tokens: source.match(/\\[a-zA-Z]+\*?|\\[^]|%[^\n]*\n?|\s+|[^]/gu) || [], at: 0 };
    const made = math("math", ...sequence(left, 0, () => false));
    if (left.at < left.tokens.length) return null;
    made.setAttribute("display", display ? "block" : "inline");
    made.setAttribute("aria-label", source);
    return made;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

function peek(left) {
  while (left.at < left.tokens.length && /^(\s|%)/.test(left.tokens[left.at])) left.at += 1;
  return left.tokens[left.at];
}

function next(left) {
  const token = peek(left);
  if (token === undefined) throw new SyntaxError("the formula ends early");
  left.at += 1;
  return token;
}

function sequence(left, depth, ends) {
  if (depth > DEEPEST) throw new SyntaxError("nested too deeply");
  const made = [];
  for (let token = peek(left); token !== undefined && token !== "}" && !ends(token); token = peek(left)) {
    const one = scripted(left, depth);
    if (one) made.push(one);
  }
  return made;
}

function scripted(left, depth) {
  let base = "^_'".includes(peek(left)) ? math("mrow") : atom(left, depth);
  const scripts = {};
  for (let token = peek(left); "^_'".includes(token || " ") && base; token = peek(left)) {
    next(left);
    if (token === "'") scripts["^"] = row([...(scripts["^"] ? [scripts["^"]] : []), math("mo", "′")]);
    else scripts[token] = row([...(scripts[token] ? [scripts[token]] : []), argument(left, depth)]);
  }
  if (!scripts["^"] && !scripts._) return base;
  const under = base.dataset && base.dataset.limits;
  const both = scripts["^"] && scripts._;
  const name = both ? (under ? "munderover" : "msubsup") : scripts._ ? (under ? "munder" : "msub") : (under ? "mover" : "msup");
  return math(name, base, ...(scripts._ ? [scripts._] : []), ...(scripts["^"] ? [scripts["^"]] : []));
}

/* What a command takes: a group, or without braces one sign; of a number one digit. */
function argument(left, depth) {
  const token = peek(left);
  if (/^[0-9]$/.test(token || "")) return math("mn", next(left));
  return token === "{" ? group(left, depth) : atom(left, depth + 1) || math("mrow");
}

function group(left, depth) {
  if (next(left) !== "{") throw new SyntaxError("a group was expected");
  const made = sequence(left, depth + 1, () => false);
  if (next(left) !== "}") throw new SyntaxError("a group does not end");
  return row(made.length ? made : [math("mrow")]);
}

/* The text of a group, as it stands. */
function raw(left) {
  if (peek(left) !== "{") return next(left);
  left.at += 1;
  let text = "";
  for (let open = 1; ; left.at += 1) {
    const token = left.tokens[left.at];
    if (token === undefined) throw new SyntaxError("a text does not end");
    open += token === "{" ? 1 : token === "}" ? -1 : 0;
    if (!open) break;
    if (token !== "{" && token !== "}") text += /^\\[^a-zA-Z]/.test(token) ? token.slice(1) : token;
  }
  left.at += 1;
  return text;
}

function atom(left, depth) {
  if (depth > DEEPEST) throw new SyntaxError("nested too deeply");
  const token = peek(left);
  if (token === "{") return group(left, depth);
  next(left);
  if (/^[0-9]$/.test(token)) {
    let digits = token;
    while (/^[0-9.]$/.test(left.tokens[left.at] || "") && !(left.tokens[left.at] === "." && !/^[0-9]$/.test(left.tokens[left.at + 1] || ""))) {
      digits += left.tokens[left.at];
      left.at += 1;
    }
    return math("mn", digits);
  }
  if (token === "&" || token === "}") throw new SyntaxError("a mark stands where none may");
  if (token === "~") return space(SPACES["~"]);
  if (token[0] !== "\\") return /^\p{L}$/u.test(token) ? math("mi", token) : still(token === "-" ? "−" : token);
  return command(token.slice(1), left, depth);
}

/* A sign that keeps its size: only \\left and \\right stretch. */
function still(sign) {
  const made = math("mo", sign);
  made.setAttribute("stretchy", "false");
  return made;
}

function space(width) {
  const made = math("mspace");
  made.setAttribute("width", `${width}em`);
  return made;
}

function limits(made) {
  made.dataset.limits = "1";
  return made;
}

function fence(mark) {
  if (mark === ".") return "";
  return mark[0] === "\\" ? SIGNS[mark.slice(1)] || mark.slice(1) : mark;
}

function command(name, left, depth) {
  if (name in LETTERS) return math("mi", LETTERS[name]);
  if (name in SIGNS) return math("mo", SIGNS[name]);
  if (name in LARGE) return name.endsWith("int") ? math("mo", LARGE[name]) : limits(math("mo", LARGE[name]));
  if (name in SPACES) return space(SPACES[name]);
  if (FUNCTIONS.has(name)) return ["lim", "max", "min", "sup", "inf", "gcd"].includes(name) ? limits(math("mo", name)) : math("mi", name);
  if (IGNORED.has(name)) return null;
  if (UPRIGHT.has(name) || name === "operatorname*") return math("mtext", raw(left));
  if (name in STYLES) return styled(raw(left), STYLES[name]);
  if (name in ACCENTS) return accent(argument(left, depth), ACCENTS[name]);
  switch (name) {
    case "frac": case "dfrac": case "tfrac": case "cfrac":
      return math("mfrac", argument(left, depth), argument(left, depth));
    case "binom": case "dbinom": case "tbinom": {
      const over = math("mfrac", argument(left, depth), argument(left, depth));
      over.setAttribute("linethickness", "0");
      return math("mrow", math("mo", "("), over, math("mo", ")"));
    }
    case "sqrt": {
      if (peek(left) !== "[") return math("msqrt", argument(left, depth));
      next(left);
      const index = row(sequence(left, depth + 1, (token) => token === "]"));
      next(left);
      return math("mroot", argument(left, depth), index);
    }
    case "boxed": case "fbox": {
      const made = math("mrow", argument(left, depth));
      made.setAttribute("class", "boxed");
      return made;
    }
    case "left": {
      const opening = fence(next(left));
      const inside = sequence(left, depth + 1, (token) => token === "\\right");
      if (next(left) !== "\\right") throw new SyntaxError("\\left has no \\right");
      return math("mrow", math("mo", opening), ...inside, math("mo", fence(next(left))));
    }
    case "middle": return math("mo", fence(next(left)));
    case "underline": return math("munder", argument(left, depth), math("mo", "_"));
    case "underbrace": return limits(math("munder", argument(left, depth), math("mo", "⏟")));
    case "overset": case "stackrel": {
      const above = argument(left, depth);
      return math("mover", argument(left, depth), above);
    }
    case "underset": {
      const below = argument(left, depth);
      return math("munder", argument(left, depth), below);
    }
    case "not": return math("mrow", math("mo", `${argument(left, depth).textContent}\u0338`));
    case "pmod": return math("mrow", math("mo", "("), math("mi", "mod"), space(0.3), argument(left, depth), math("mo", ")"));
    case "bmod": case "mod": return math("mo", "mod");
    case "phantom": return math("mphantom", argument(left, depth));
    case "color": case "textcolor": raw(left); return name === "color" ? null : argument(left, depth);
    case "tag": case "tag*": return math("mtext", ` (${raw(left)})`);
    case "begin": return environment(left, depth);
    case "\\": case "newline": {
      const made = math("mspace");
      made.setAttribute("linebreak", "newline");
      return made;
    }
    default: throw new SyntaxError(`\\${name} is not known`);
  }
}

function styled(text, style) {
  const made = math("mi", text);
  made.setAttribute("class", style);
  return made;
}

function accent(base, mark) {
  const over = math("mover", base, math("mo", mark));
  over.setAttribute("accent", "true");
  return over;
}

const FENCES = { pmatrix: "()", bmatrix: "[]", vmatrix: "||", Bmatrix: "{}", Vmatrix: "‖‖", cases: "{", rcases: " }" };

function environment(left, depth) {
  const name = raw(left).replace(/\*$/, "");
  if (!/^([pbvBV]?matrix|smallmatrix|r?cases|dcases|align|aligned|gather|gathered|split|array|equation|eqnarray|alignat)$/.test(name)) {
    throw new SyntaxError(`${name} is not known`);
  }
  if (name === "array") raw(left);
  const table = math("mtable");
  if (/align|split|eqnarray/.test(name)) table.setAttribute("class", "aligned");
  if (/cases/.test(name)) table.setAttribute("class", "cases");
  const ends = (token) => token === "&" || token === "\\\\" || token === "\\end";
  for (let line = math("mtr"); ; ) {
    line.append(math("mtd", ...sequence(left, depth + 1, ends)));
    const token = next(left);
    if (token === "}") throw new SyntaxError("a group ends that did not begin");
    if (token !== "&") {
      table.append(line);
      line = math("mtr");
    }
    if (token === "\\end") break;
  }
  raw(left);
  const marks = FENCES[name] || (name === "dcases" ? "{" : "");
  const around = [...marks].map((mark) => math("mo", mark.trim()));
  return marks ? math("mrow", around[0], table, ...around.slice(1)) : table;
}
