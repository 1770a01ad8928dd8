// Shows the figures of the chosen token below the page, and sorts and filters the chunks.
"use strict";

const data = JSON.parse(document.getElementById("data").textContent);
const rows = [...document.querySelectorAll(".row")];
const places = rows.map((row) => row.parentElement);
const numberOf = new Map(rows.map((row, number) => [row, number]));
const panel = document.getElementById("token");
const form = document.querySelector(".controls");
const sorted = document.getElementById("sorted");
let now = null;

function choose(token) {
  if (now) now.classList.remove("now");
  now = token;
  now.classList.add("now");
  const row = data.rows[numberOf.get(token.closest(".row"))];
  const place = [...token.parentElement.children].indexOf(token);
  const gain = row.gains[place];
  const parts = [gain === null ? "not scored" : `${gain < 0 ? "" : "+"}${gain.toFixed(2)} nats`];
  if (row.shares) parts.push(`memory ${row.shares[place]} %`);
  if (row.shares && row.most[place] >= 0) parts.push(`most of it ${data.experts[row.most[place]]}`);
  const text = document.createElement("code");
  text.textContent = token.textContent.replace(/\n/g, "\u21b5");
  panel.replaceChildren(text, ` ${parts.join("; ")}`);
  panel.hidden = false;
}

document.addEventListener("click", (event) => {
  const token = event.target.closest(".tokens > span");
  if (token) choose(token);
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && now) {
    now.classList.remove("now");
    now = null;
    panel.hidden = true;
  }
  const text = event.target.closest(".tokens");
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!text || !step || !text.children.length) return;
  event.preventDefault();
  const at = now && now.parentElement === text ? [...text.children].indexOf(now) + step : 0;
  choose(text.children[Math.min(text.children.length - 1, Math.max(0, at))]);
});

function within(value, name) {
  if (!form.elements[`${name}-from`]) return true;
  const [from, to] = ["from", "to"].map((end) => form.elements[`${name}-${end}`].value);
  return (from === "" || value >= Number(from)) && (to === "" || value <= Number(to));
}

function tokensOf(row, expert) {
  // Number of tokens of which a kind of expert gave most; of any kind if none is named.
  const kinds = (row.most || []).filter((one) => one >= 0).map((one) => data.experts[one]);
  return kinds.filter((name) => !expert || name.split(":")[0] === expert).length;
}

function arrange() {
  const expert = form.elements.expert ? form.elements.expert.value : "";
  rows.forEach((row, number) => {
    const found = data.rows[number];
    const kept = within(found.gain, "gain") && within(found.overlap, "overlap");
    row.hidden = !(kept && (!expert || tokensOf(found, expert)));
  });
  const order = form.elements.order.value;
  const key = {
    gain: (row) => -row.gain,
    loss: (row) => row.gain,
    overlap: (row) => -row.overlap,
    expert: (row) => -tokensOf(row, expert),
  }[order];
  const numbers = [...rows.keys()];
  if (key) numbers.sort((a, b) => key(data.rows[a]) - key(data.rows[b]));
  numbers.forEach((number) => (key ? sorted : places[number]).append(rows[number]));
  document.querySelectorAll(".document").forEach((section) => {
    section.hidden = !section.querySelector(".row:not([hidden])");
  });
  const count = rows.filter((row) => !row.hidden).length;
  form.querySelector("output").textContent = `${count} of ${rows.length} chunks`;
}

form.hidden = false;
form.addEventListener("input", arrange);
form.addEventListener("reset", () => setTimeout(arrange));
form.addEventListener("submit", (event) => event.preventDefault());
arrange();
