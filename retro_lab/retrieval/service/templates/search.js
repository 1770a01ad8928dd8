const form = document.getElementById("search");
const text = document.getElementById("text");
const key = document.getElementById("key");
const says = document.getElementById("status");
const results = document.getElementById("results");
let latest = 0;

function element(name, content, kind) {
  const made = document.createElement(name);
  made.textContent = content;
  if (kind) made.className = kind;
  return made;
}

function item(hit) {
  const about = element("p", hit.document_id + " ", "about");
  about.append(element("span", `chunk ${hit.chunk_id}, score ${hit.score.toPrecision(4)}`));
  const made = document.createElement("li");
  made.append(about, element("pre", hit.text));
  if (hit.continuation) {
    made.append(element("p", "continues:", "hint"));
    made.append(element("pre", hit.continuation, "continuation"));
  }
  return made;
}

// Headers are bytes, a letter each.
function bytes(written) {
  return String.fromCharCode(...new TextEncoder().encode(written));
}

async function found(body) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = "Bearer " + bytes(key.value.trim());
  const answer = await fetch("search", { method: "POST", headers, body: JSON.stringify(body) });
  const data = await answer.json();
  if (!answer.ok) throw new Error(`${data.error.message} (${data.error.fix})`);
  return data.results[0];
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const mine = ++latest;
  says.textContent = "Searching ...";
  results.replaceChildren();
  try {
    const hits = await found({ texts: [text.value], k: Number(document.getElementById("k").value) });
    if (mine !== latest) return;
    results.replaceChildren(...hits.map(item));
    says.textContent = hits.length === 1 ? "1 neighbour" : `${hits.length} neighbours`;
  } catch (error) {
    if (mine === latest) says.textContent = "No result: " + error.message;
  }
});

text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    form.requestSubmit();
  }
});
