"use strict";

const at = (id) => document.getElementById(id);
let about = null;
let asked = null; // the question that is being answered: a later one ends it
let last = null; // asks the last question again

const SHOWN = 20; // collections, and an item's labels
const SHOWN_LETTERS = 200; // of a name

// a name within a line of others must neither push them away nor turn their direction
function within(text) {
  const plain = text.replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "");
  return plain.length > SHOWN_LETTERS ? `${plain.slice(0, SHOWN_LETTERS)}…` : plain;
}

const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
const several = (nouns) => nouns.map((noun) => `${noun}s`);

function list(words, last) {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} ${last} ${words.at(-1)}`;
}

// by the ending of its name, as the server has it
function kindOf(file) {
  const name = file.name.toLowerCase();
  const found = Object.entries(about?.takes ?? {}).find(([, endings]) => endings.some((ending) => name.endsWith(ending)));
  return found ? found[0] : "image";
}

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
    if (at("finds").value) parameters.set("finds", at("finds").value);
    show(question, await answerOf(`api/search?${parameters}`, { ...options, signal: own.signal }));
  } catch (error) {
    if (error.name !== "AbortError") complain(error.message);
  } finally {
    if (own === asked) at("hits").classList.remove("waiting");
  }
}

function showAsked(shown) {
  for (const old of at("preview").querySelectorAll("[src]")) URL.revokeObjectURL(old.src);
  at("preview").replaceChildren(...(shown ? [shown] : []));
  at("preview").hidden = !shown;
}

function askText(text) {
  at("text").value = text;
  showAsked(null);
  if (!text.trim()) return complain("Type a sentence first, or drop a file.");
  history.replaceState(null, "", `?${new URLSearchParams({ text })}`);
  return ask(`“${text}”`, { text }, {});
}

function askFile(file) {
  const kind = kindOf(file);
  at("text").value = "";
  history.replaceState(null, "", location.pathname);
  showAsked(previewOf(file, kind));
  const most = about?.limits.upload_bytes;
  if (file.size > most) {
    const size = (file.size / 2 ** 20).toFixed(1);
    return complain(`${file.name} has ${size} MB; the server takes files up to ${most / 2 ** 20} MB.`);
  }
  const body = new FormData();
  body.append("file", file);
  return ask(file.name || `The pasted ${NOUNS[kind]}`, {}, { method: "POST", body });
}

function show(question, answer) {
  const counts = Map.groupBy(answer.hits, (hit) => hit.modality);
  const parts = answer.finds.filter((kind) => counts.has(kind)).map((kind) => count(counts.get(kind).length, NOUNS[kind]));
  const texts = answer.finds.every((kind) => kind === "text");
  const each = texts && answer.hits.every((hit) => hit.thumbnail) ? ", each with its own picture" : "";
  at("status").textContent = `${within(question)}: ${list(parts, "and") || "nothing"}${each}, best first`;
  at("remark").textContent = answer.remark && answer.remark[0].toUpperCase() + answer.remark.slice(1) + ".";
  at("remark").hidden = !answer.remark;
  at("hits").className = texts ? "text" : "image";
  const mixed = answer.finds.length > 1;
  at("hits").replaceChildren(...answer.hits.map((hit, row) => card(hit, row + 1, mixed)));
}

const wordsOf = (hit) => hit.texts[0] || hit.source;

function playerOf(hit, kind) {
  return PLAYERS[kind](hit.previews[kind], wordsOf(hit), hit.thumbnail);
}

// what plays in a card: by what the item was found; with a text, what it is about
function playingOf(hit) {
  const kinds = hit.modality === "text" ? ["video", "shape3d", "audio"] : [hit.modality];
  return kinds.find((kind) => kind in hit.previews);
}

function pictureOf(hit, kind) {
  const shown = kind === "shape3d" ? playerOf(hit, kind) : hit.thumbnail && image(hit.thumbnail, wordsOf(hit));
  if (shown) shown.classList.add("picture");
  return shown || element("span", "picture", "no picture");
}

function labelsOf(hit, most) {
  return hit.labels.slice(0, most).map((label) => element("span", "label", most ? within(label) : label));
}

function rankOf(hit, rank, mixed) {
  const line = element("span", "rank");
  const score = element("span", "score", hit.score.toFixed(3));
  score.title = `${about?.similarity ?? "score"} ${hit.score}`;
  line.append(element("b", "", `${rank}`), score);
  if (mixed) line.append(element("span", "kind", NOUNS[hit.modality]));
  line.append(...labelsOf(hit, SHOWN));
  return line;
}

function card(hit, rank, mixed) {
  const button = element("button", "hit");
  button.type = "button";
  const words = element("span", "words");
  const kind = playingOf(hit);
  const isText = mixed && hit.modality === "text" && !kind && !hit.thumbnail; // in the place of a picture
  words.append(rankOf(hit, rank, mixed), ...(isText ? [] : [element("span", "caption", wordsOf(hit))]));
  if (hit.texts.length > 1) words.append(element("span", "count", `and ${count(hit.texts.length - 1, "more text")}`));
  if (isText) button.append(element("span", "picture quote", wordsOf(hit)));
  else if (kind !== "video") button.append(pictureOf(hit, kind));
  button.append(words);
  button.addEventListener("click", () => open(hit, rank));
  const item = element("li");
  if (kind === "video") item.append(playerOf(hit, kind));
  item.append(button);
  if (kind === "audio") item.append(playerOf(hit, kind));
  return item;
}

function mediaOf(hit) {
  const kinds = Object.keys(PLAYERS).filter((kind) => kind in hit.previews);
  const still = hit.thumbnail && !kinds.some((kind) => kind !== "audio") ? [image(hit.thumbnail, "")] : [];
  return [...still, ...kinds.map((kind) => playerOf(hit, kind))];
}

function open(hit, rank) {
  const dialog = at("more");
  dialog.querySelector(".media").replaceChildren(...mediaOf(hit));
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
  describeQueries();
  describeFinds();
  if (!("text" in about.takes)) return;
  const chips = about.examples.map((text) => {
    const chip = element("button", "", text);
    chip.type = "button";
    chip.addEventListener("click", () => askText(text));
    return chip;
  });
  at("examples").replaceChildren(...(chips.length ? [element("span", "", "Try")] : []), ...chips);
}

function describeQueries() {
  const found = (own) => Object.keys(about.found_by).filter((kind) => kind !== own).map((kind) => NOUNS[kind]);
  const files = Object.keys(about.takes).filter((kind) => kind !== "text");
  const taken = list(files.map((kind) => `a ${NOUNS[kind]}`), "or");
  const finds = files.length === 1 ? list(several(found(files[0])), "and") : "what goes with it";
  if (found("text").length) at("text-finds").textContent = `A sentence finds ${list(several(found("text")), "and")}`;
  if (files.length) at("file-finds").textContent = `${taken[0].toUpperCase()}${taken.slice(1)} finds ${finds || "nothing here"}`;
  at("file").accept = [...("image" in about.takes ? ["image/*"] : []), ...files.flatMap((kind) => about.takes[kind])].join();
  const reads = [["text" in about.takes, at("text").closest(".bar"), "sentence"], [files.length, at("drop"), "file"]];
  for (const [read, where, noun] of reads) {
    if (read) continue;
    where.classList.add("off");
    where.querySelector("input").disabled = true;
    where.title = `This model cannot read a ${noun}`;
  }
}

// a choice where there are several kinds to be found
function describeFinds() {
  const kinds = Object.keys(about.found_by);
  if (kinds.length < 3) return;
  for (const kind of kinds) {
    const option = element("option", "", `${NOUNS[kind]}s`);
    option.value = kind;
    at("finds").append(option);
  }
  for (const part of [at("finds"), ...at("finds").labels]) part.hidden = false;
}

function firstFile(transfer) {
  return [...(transfer?.files ?? [])][0];
}

at("preview").addEventListener("error", () => {
  showAsked(null); // no picture, or nothing that this browser plays; the server says in words what is wrong
}, true);
at("more").addEventListener("close", () => at("more").querySelector(".media").replaceChildren()); // and falls silent
at("query").addEventListener("submit", (event) => {
  event.preventDefault();
  askText(at("text").value);
});
at("file").addEventListener("change", () => {
  if (at("file").files.length) askFile(at("file").files[0]);
  at("file").value = ""; // the same file can be chosen again
});
for (const choice of ["k", "finds"]) at(choice).addEventListener("change", () => last?.());

// a file may be dropped anywhere
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
  const file = firstFile(event.dataTransfer);
  if (file) askFile(file);
  else complain("What was dropped is no file. Save it first, or copy and paste a picture.");
});
document.addEventListener("paste", (event) => {
  const file = firstFile(event.clipboardData);
  if (!file) return; // text goes where the cursor is
  event.preventDefault();
  askFile(file);
});

answerOf("api/about").then((answer) => {
  about = answer;
  describe();
  const text = new URLSearchParams(location.search).get("text");
  if (text) askText(text);
}).catch((error) => complain(error.message));
