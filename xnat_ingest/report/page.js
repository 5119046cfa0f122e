"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const box = document.getElementById("list"), more = document.getElementById("more");
// Rows by the number of their session: those that the page brought, and those that were drawn since.
const rows = new Map([...box.querySelectorAll("details.session")].map((row) => [Number(row.dataset.at), row]));
const make = (name, text, classes) => {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (classes) node.className = classes;
  return node;
};
const table = (caption, heads, rows) => {
  const box = make("div", undefined, "scroll"), node = make("table"), head = make("tr"), body = make("tbody");
  node.append(make("caption", caption));
  for (const [text, classes] of heads) {
    const cell = make("th", text, classes);
    cell.scope = "col";
    head.append(cell);
  }
  const top = make("thead");
  top.append(head);
  for (const row of rows) {
    const line = make("tr");
    row.forEach((text, k) => line.append(make("td", text, heads[k][1])));
    body.append(line);
  }
  node.append(top, body);
  box.append(node);
  box.tabIndex = 0;
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", caption);
  return box;
};
const fill = (details) => {
  if (details.dataset.full) return;
  details.dataset.full = "1";
  const session = data.sessions[details.dataset.at], inside = details.querySelector(".inside");
  if (session.sheet.length) {
    const sheet = make("div", undefined, "sheet");
    for (const [source, text] of session.sheet) {
      const figure = make("figure"), image = make("img");
      image.src = source;
      image.alt = "middle slice of series " + text;
      figure.append(image, make("figcaption", text));
      sheet.append(figure);
    }
    inside.append(sheet);
  }
  const heads = [["scan", ""], ["description", ""], ["modality", ""], ["instances", "num"], ["proven", "num"], ["read back", "num"], ["folder", ""]];
  if (session.studies.length) {
    heads.unshift(["study", "num"]);
    const list = make("ol");
    for (const uid of session.studies) list.append(make("li", uid));
    inside.append(make("p", "This session holds " + session.studies.length + " studies:"), list);
  }
  if (session.scans.length) inside.append(table("Scans", heads, session.scans));
  if (session.unproven.length) {
    inside.append(table("Not proven", [["file", ""], ["state", ""], ["why", ""]], session.unproven));
    if (session.more) inside.append(make("p", "... and " + session.more + " more, all in the JSON report", "soft"));
  }
};
box.addEventListener("toggle", (event) => event.target.open && fill(event.target), true);
const rowOf = (at) => {
  if (!rows.has(at)) {
    const holder = make("template");
    holder.innerHTML = data.sessions[at].row; // escaped where the page was written
    rows.set(at, holder.content.firstElementChild);
  }
  return rows.get(at);
};
let fitting = [], drawn = 0;
const draw = (count) => {
  const next = fitting.slice(drawn, drawn + count);
  box.append(...next.map(rowOf));
  drawn += next.length;
  const left = fitting.length - drawn;
  more.hidden = left === 0;
  more.textContent = "Show " + Math.min(left, data.drawn) + " more of " + left;
};
const search = document.getElementById("search"), show = document.getElementById("show"), shown = document.getElementById("shown");
const filter = () => {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  fitting = [];
  data.sessions.forEach((one, at) => {
    const fits = words.every((w) => one.text.includes(w)) &&
      (!show.value || one.word === show.value || (show.value === "care" && one.care));
    if (fits) fitting.push(at);
  });
  box.replaceChildren();
  drawn = 0;
  draw(data.drawn);
  shown.textContent = fitting.length + " of " + data.sessions.length + " sessions";
};
document.getElementById("tools").hidden = data.sessions.length === 0;
let waiting = 0;
search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(filter, 120); });
show.addEventListener("change", filter);
more.addEventListener("click", () => draw(data.drawn));
window.addEventListener("beforeprint", () => draw(fitting.length)); // paper has no button
filter();
