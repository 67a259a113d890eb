"use strict";

const at = (id) => document.getElementById(id);
let about = null;
let asked = null; // the question that is being answered: a later one ends it
let last = null; // asks the last question again

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

const SHOWN = 20; // collections, and an item's labels
const SHOWN_LETTERS = 200; // of a name

// a name within a line of others must neither push them away nor turn their direction
function within(text) {
  const plain = text.replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "");
  return plain.length > SHOWN_LETTERS ? `${plain.slice(0, SHOWN_LETTERS)}…` : plain;
}

const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

async function answerOf(address, options) {
  let response;
  try {
    response = await fetch(address, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) throw new Error(body.detail || `The server answers with an error (${response.status}).`);
  return body;
}

function complain(message) {
  at("error").textContent = message[0].toUpperCase() + message.slice(1);
  at("error").hidden = false;
  at("status").textContent = "";
  at("remark").hidden = true;
  at("hits").replaceChildren();
}

async function ask(question, address, options) {
  asked?.abort();
  asked = new AbortController();
  const own = asked;
  last = () => ask(question, address, options);
  at("error").hidden = true;
  at("remark").hidden = true;
  at("examples").hidden = true;
  at("status").textContent = "Searching …";
  at("hits").classList.add("waiting");
  try {
    const parameters = new URLSearchParams({ ...address, k: at("k").value });
    show(question, await answerOf(`api/search?${parameters}`, { ...options, signal: own.signal }));
  } catch (error) {
    if (error.name !== "AbortError") complain(error.message);
  } finally {
    if (own === asked) at("hits").classList.remove("waiting");
  }
}

function askText(text) {
  at("text").value = text;
  at("preview").hidden = true;
  if (!text.trim()) return complain("Type a sentence first, or drop a picture.");
  history.replaceState(null, "", `?${new URLSearchParams({ text })}`);
  return ask(`“${text}”`, { text }, {});
}

function askPicture(file) {
  at("text").value = "";
  history.replaceState(null, "", location.pathname);
  URL.revokeObjectURL(at("preview").src);
  at("preview").src = URL.createObjectURL(file);
  at("preview").hidden = false;
  const most = about?.limits.upload_bytes;
  if (file.size > most) {
    const size = (file.size / 2 ** 20).toFixed(1);
    return complain(`${file.name} has ${size} MB; the server takes pictures up to ${most / 2 ** 20} MB.`);
  }
  const body = new FormData();
  body.append("picture", file);
  return ask(file.name || "The pasted picture", {}, { method: "POST", body });
}

function show(question, answer) {
  const pictures = answer.finds === "image";
  const found = pictures ? count(answer.hits.length, "picture") : `${count(answer.hits.length, "text")}, each with its own picture`;
  at("status").textContent = `${within(question)}: ${found}, best first`;
  at("remark").textContent = answer.remark && answer.remark[0].toUpperCase() + answer.remark.slice(1) + ".";
  at("remark").hidden = !answer.remark;
  at("hits").className = pictures ? "image" : "text";
  at("hits").replaceChildren(...answer.hits.map((hit, row) => card(hit, row + 1)));
}

function pictureOf(hit) {
  if (!hit.thumbnail) return element("span", "picture", "no picture");
  const picture = element("img", "picture");
  picture.src = hit.thumbnail;
  picture.alt = hit.texts[0] || hit.source;
  picture.loading = "lazy";
  return picture;
}

function labelsOf(hit, most) {
  return hit.labels.slice(0, most).map((label) => element("span", "label", most ? within(label) : label));
}

function rankOf(hit, rank) {
  const line = element("span", "rank");
  const score = element("span", "score", hit.score.toFixed(3));
  score.title = `${about?.similarity ?? "score"} ${hit.score}`;
  line.append(element("b", "", `${rank}`), score, ...labelsOf(hit, SHOWN));
  return line;
}

function card(hit, rank) {
  const button = element("button", "hit");
  button.type = "button";
  const words = element("span", "words");
  words.append(rankOf(hit, rank), element("span", "caption", hit.texts[0] || hit.source));
  if (hit.texts.length > 1) words.append(element("span", "count", `and ${count(hit.texts.length - 1, "more text")}`));
  button.append(pictureOf(hit), words);
  button.addEventListener("click", () => open(hit, rank));
  const item = element("li");
  item.append(button);
  return item;
}

function open(hit, rank) {
  const dialog = at("more");
  const picture = dialog.querySelector("img");
  picture.hidden = !hit.thumbnail;
  if (hit.thumbnail) picture.src = hit.thumbnail;
  at("more-title").textContent = `Rank ${rank}, ${about?.similarity ?? "score"} ${hit.score.toFixed(4)}`;
  dialog.querySelector(".labels").replaceChildren(...labelsOf(hit));
  dialog.querySelector("ul").replaceChildren(...hit.texts.map((text) => element("li", "", text)));
  dialog.querySelector(".source").textContent = [hit.collection, hit.split, hit.source, `item ${hit.item}`].filter(Boolean).map(within).join(" · ");
  dialog.showModal();
}

function describe() {
  const parts = Map.groupBy(about.collections, (part) => part.name);
  const sources = [...parts].slice(0, SHOWN).map(([name, some]) => [name, ...some.map((part) => part.split).filter(Boolean)].join(", "));
  if (parts.size > SHOWN) sources.push(`and ${count(parts.size - SHOWN, "more collection")}`);
  at("about").textContent = [
    count(about.items, "item"), ...sources, `${about.model} (${about.run})`, about.similarity,
    about.exact ? "exact" : "approximate (HNSW)",
  ].map(within).join(" · ");
  const reads = { text: at("text").closest(".bar"), picture: at("drop") };
  for (const [kind, where] of Object.entries(reads)) {
    if (about.takes.includes(kind)) continue;
    where.classList.add("off");
    where.querySelector("input").disabled = true;
    where.title = `This model cannot read a ${kind}`;
  }
  if (!about.takes.includes("text")) return;
  const chips = about.examples.map((text) => {
    const chip = element("button", "", text);
    chip.type = "button";
    chip.addEventListener("click", () => askText(text));
    return chip;
  });
  at("examples").replaceChildren(...(chips.length ? [element("span", "", "Try")] : []), ...chips);
}

function firstPicture(transfer) {
  return [...(transfer?.files ?? [])][0];
}

at("preview").addEventListener("error", () => {
  at("preview").hidden = true; // no picture; the server says so in words
});
at("query").addEventListener("submit", (event) => {
  event.preventDefault();
  askText(at("text").value);
});
at("picture").addEventListener("change", () => {
  if (at("picture").files.length) askPicture(at("picture").files[0]);
  at("picture").value = ""; // the same file can be chosen again
});
at("k").addEventListener("change", () => last?.());

// a picture may be dropped anywhere
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  at("drop").classList.add("over");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) at("drop").classList.remove("over");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  at("drop").classList.remove("over");
  const file = firstPicture(event.dataTransfer);
  if (file) askPicture(file);
  else complain("What was dropped is no file. Save the picture first, or copy and paste it.");
});
document.addEventListener("paste", (event) => {
  const file = firstPicture(event.clipboardData);
  if (!file) return; // text goes where the cursor is
  event.preventDefault();
  askPicture(file);
});

answerOf("api/about").then((answer) => {
  about = answer;
  describe();
  const text = new URLSearchParams(location.search).get("text");
  if (text) askText(text);
}).catch((error) => complain(error.message));
