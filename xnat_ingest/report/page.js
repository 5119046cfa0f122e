"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const sessions = [...document.querySelectorAll("details.session")];
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
  const heads = [["scan", ""], ["description", ""], ["modality", ""], ["instances", "num"], ["proven", "num"], ["read back", "num"]];
  if (session.scans.length) inside.append(table("Scans", heads, session.scans));
  if (session.unproven.length) {
    inside.append(table("Not proven", [["file", ""], ["state", ""], ["why", ""]], session.unproven));
    if (session.more) inside.append(make("p", "... and " + session.more + " more, all in the JSON report", "soft"));
  }
};
sessions.forEach((one) => one.addEventListener("toggle", () => one.open && fill(one)));
const search = document.getElementById("search"), show = document.getElementById("show"), shown = document.getElementById("shown");
const filter = () => {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  let count = 0;
  for (const one of sessions) {
    const text = data.sessions[one.dataset.at].text, word = one.dataset.word;
    const fits = words.every((w) => text.includes(w)) &&
      (!show.value || word === show.value || (show.value === "care" && one.dataset.care === "1"));
    one.hidden = !fits;
    count += fits;
  }
  shown.textContent = count + " of " + sessions.length + " sessions";
};
document.getElementById("tools").hidden = sessions.length === 0;
let waiting = 0;
search.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(filter, 120); });
show.addEventListener("change", filter);
filter();
