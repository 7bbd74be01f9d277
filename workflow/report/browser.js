"use strict";
// The run browser. What is chosen is in the address behind the #, so that a link shows it again:
// #run=dmpo/sudoku/default/seed-0&with=dmpo/sudoku/default/seed-1&answers=wrong&find=dmpo
// Text from files enters the page as text only (textContent), never as markup.
const DATA = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT] = [240, 90];
const NOTHING = {run: "", with: "", answers: "all", find: ""};
const state = {...NOTHING};
const at = id => document.getElementById(id);
const rows = [...at("browser").tBodies[0].rows];

function make(name, attributes = {}, ...content) {
  const element = document.createElement(name);
  Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
  element.append(...content);  // strings become text
  return element;
}

function draw(name, attributes, ...content) {
  const element = document.createElementNS(SVG, name);
  Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
  element.append(...content);
  return element;
}

// The address and the state.

function address() {
  const said = Object.entries(state).filter(([key, value]) => value !== NOTHING[key]);
  const parts = said.map(([key, value]) => `${key}=${encodeURIComponent(value).replaceAll("%2F", "/")}`);
  return parts.length ? `#${parts.join("&")}` : "#runs";
}

function change(values) {
  Object.assign(state, values);
  // Every choice is a step that "back" undoes; letters typed into the filter are not.
  history["find" in values ? "replaceState" : "pushState"](null, "", address());
  show();
}

function restore() {
  const given = location.hash.slice(1);
  if (given && !given.includes("=")) return;  // a link to a section
  const asked = new URLSearchParams(given);
  Object.keys(NOTHING).forEach(key => { state[key] = asked.get(key) ?? NOTHING[key]; });
  if (!["all", "wrong", "right"].includes(state.answers)) state.answers = "all";
  show();
  if (state.run) at("chosen").scrollIntoView();
}

// What the state shows.

function show() {
  const names = [state.run, state.with].filter(Boolean);
  const unknown = names.filter(name => !Object.hasOwn(DATA.runs, name));
  const shown = names.filter(name => !unknown.includes(name)).map((name, place) => ({name, place, ...DATA.runs[name]}));
  showList(names);
  at("missing").textContent = unknown.map(name => `This page has no run ${name}.`).join(" ");
  at("detail").hidden = shown.length === 0;
  at("chosen").textContent = shown.map(run => run.name).join(" and ") || "No run chosen";
  at("remove").hidden = shown.length < 2;
  document.querySelectorAll("input[name=answers]").forEach(input => { input.checked = input.value === state.answers; });
  at("legend").replaceChildren(...shown.map(legend));
  // One axis of updates for all columns and both runs.
  const last = Math.max(2, ...shown.flatMap(run => Object.values(run.curves).map(curve => curve.x.at(-1))));
  at("curves").replaceChildren(...DATA.columns.map(column => chart(column, shown, last)).filter(Boolean));
  showSettings(shown);
  showAnswers(shown);
  stops();
}

function showList(names) {
  const words = state.find.toLowerCase().split(/\s+/);
  rows.forEach(row => {
    const text = `${row.textContent} ${row.dataset.run}`.toLowerCase();
    row.hidden = !words.every(word => text.includes(word));
    row.classList.toggle("chosen", names.includes(row.dataset.run));
    row.querySelector("button").setAttribute("aria-pressed", String(names.includes(row.dataset.run)));
  });
  if (at("find").value !== state.find) at("find").value = state.find;
  at("count").textContent = `${rows.filter(row => !row.hidden).length} of ${rows.length} runs`;
}

// The second run is dashed, because two runs of a method have one colour.
const stroke = run => ({stroke: run.colour, fill: "none", "stroke-width": 1.6, "stroke-dasharray": run.place ? "5 3" : "none"});

function legend(run) {
  const line = draw("svg", {viewBox: "0 0 40 10", "aria-hidden": "true"}, draw("path", {d: "M0,5 H40", ...stroke(run)}));
  const item = make("li", {}, line, `${run.label}${run.place ? " (dashed)" : ""}`, run.commit ? `, by commit ${run.commit}` : "");
  run.files.forEach(file => item.append(" · ", make("a", {href: file.href}, file.name)));
  return item;
}

// One column of metrics.csv against updates; null if no run has it.
function chart(column, shown, last) {
  const lines = shown.filter(run => run.curves[column]).map(run => ({run, ...run.curves[column]}));
  if (!lines.length) return null;
  const [low, high] = [Math.min(...lines.flatMap(line => line.y)), Math.max(...lines.flatMap(line => line.y))];
  const right = step => (WIDTH * (step - 1) / (last - 1)).toFixed(1);
  const down = value => (high > low ? HEIGHT * (high - value) / (high - low) : HEIGHT / 2).toFixed(1);
  const text = (x, y, anchor, words) => draw("text", {x, y, "text-anchor": anchor}, words);
  const ends = lines.map(line => `${line.run.name} ends at ${line.y.at(-1)}`).join(", ");
  const drawing = draw("svg", {viewBox: `-46 -8 ${WIDTH + 50} ${HEIGHT + 24}`, role: "img", "aria-label": `${column}: ${ends}`},
    draw("path", {d: `M0,0 V${HEIGHT} H${WIDTH}`, fill: "none", stroke: "#59636e", "stroke-width": .75}),
    text(-4, 6, "end", short(high)), text(-4, HEIGHT, "end", short(low)),
    text(0, HEIGHT + 12, "start", "1"), text(WIDTH, HEIGHT + 12, "end", `update ${last}`));
  lines.forEach(line => {
    const points = line.x.map((step, i) => [right(step), down(line.y[i])]);
    drawing.append(draw("polyline", {points: points.map(point => point.join()).join(" "), ...stroke(line.run)}));
    // A line of few points, such as a validation, shows where they are.
    if (points.length <= 12) points.forEach(([cx, cy]) => drawing.append(draw("circle", {cx, cy, r: 2, fill: line.run.colour})));
  });
  const said = lines.map(line => short(line.y.at(-1))).join(" and ");
  return make("figure", {}, make("figcaption", {}, make("strong", {}, column), ` ends at ${said}`), drawing);
}

// Three digits; counts such as FLOPs with an exponent.
const short = value => Math.abs(value) < 1e5 ? String(Number(value.toPrecision(3))) : value.toExponential(2);

function showSettings(shown) {
  at("specs").replaceChildren(...shown.map(run => make("div", {}, make("h5", {}, run.name), make("pre", {tabindex: 0}, run.spec))));
  at("differences").hidden = shown.length < 2;
  if (shown.length < 2) return;
  const [one, other] = shown.map(run => run.settings);
  const keys = [...new Set([...Object.keys(one), ...Object.keys(other)])].filter(key => one[key] !== other[key]);
  const cells = keys.map(key => make("tr", {}, make("th", {scope: "row"}, key), make("td", {}, one[key] ?? "–"),
    make("td", {}, other[key] ?? "–")));
  at("differences").tBodies[0].replaceChildren(...cells);
  at("differences").caption.textContent = keys.length ? "Settings that differ" : "The settings are the same; the seeds may differ.";
  at("differences").tHead.hidden = !keys.length;
}

// Problem by problem, so that two runs can be compared. "wrong": at least one of the shown answers is wrong.
function showAnswers(shown) {
  const answered = shown.filter(run => run.answers);
  const problems = new Map();
  answered.forEach(run => run.answers.kept.forEach(answer => {
    const key = `${run.answers.setting}|${answer.problem}`;
    if (!problems.has(key)) problems.set(key, {setting: run.answers.setting, problem: answer.problem, given: []});
    problems.get(key).given.push({...answer, run: run.name});
  }));
  const wanted = [...problems.values()].filter(one => state.answers === "all"
    || one.given.some(answer => answer.right === (state.answers === "right")));
  const said = answered.map(run => `${run.name}: ${run.answers.wrong} of ${run.answers.total} answers wrong (${run.answers.setting})`);
  at("answered").textContent = answered.length ? `${said.join("; ")}. ${wanted.length} problems of those kept on this page:` :
    "No answers: a diagnosis grades none.";
  at("answers").replaceChildren(...wanted.map(problem));
}

function problem(one) {
  const {prompt, gold} = DATA.problems[one.problem];
  const article = make("article", {}, make("pre", {}, prompt), make("p", {}, "Expected: ", make("code", {}, gold)));
  one.given.forEach(answer => article.append(
    make("p", {}, `${answer.run}: `, make("strong", {class: answer.right ? "right" : "wrong"}, answer.right ? "right" : "wrong")),
    make("pre", {class: "completion"}, answer.completion)));
  return article;
}

// Controls.

rows.forEach(row => {
  const name = row.dataset.run;
  row.querySelector("a").addEventListener("click", event => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;  // a new tab follows the link itself
    event.preventDefault();
    change({run: name, with: state.with === name ? "" : state.with});
    at("chosen").focus();
  });
  row.querySelector("button").addEventListener("click", () => {
    if (name === state.run) change({run: state.with, with: ""});
    else if (name === state.with) change({with: ""});
    else change(state.run ? {with: name} : {run: name});
  });
});
document.querySelectorAll("input[name=answers]").forEach(input => {
  input.addEventListener("change", () => change({answers: input.value}));
});
at("find").addEventListener("input", event => change({find: event.target.value}));
at("remove").addEventListener("click", () => { change({with: ""}); at("chosen").focus(); });
addEventListener("popstate", restore);
restore();
