"use strict";

// what is seen and heard of items and of uploaded files: pictures, sounds, videos and 3D shapes

const NOUNS = { image: "picture", text: "text", audio: "sound", video: "video", shape3d: "3D shape" };

function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function image(address, words) {
  const made = element("img");
  made.src = address;
  made.alt = words;
  made.loading = "lazy";
  return made;
}

// nothing is fetched before it is played
function player(kind, address, words, poster) {
  const made = element(kind);
  made.controls = true;
  made.preload = "none";
  made.src = address;
  made.setAttribute("aria-label", words);
  if (kind === "video") {
    made.loop = made.muted = made.playsInline = true;
    made.setAttribute("muted", "");
    if (poster) made.poster = poster;
  }
  return made;
}

// turns, unless the reader wants no motion
function turning(address, words, still) {
  const made = element("picture");
  if (still) {
    const source = element("source");
    source.media = "(prefers-reduced-motion: reduce)";
    source.srcset = still;
    made.append(source);
  }
  made.append(image(address, words));
  return made;
}

const PLAYERS = {
  audio: (address, words) => player("audio", address, words),
  video: (address, words, poster) => player("video", address, words, poster),
  shape3d: turning,
};

// of a file that was just chosen; null for what a browser cannot show
function previewOf(file, kind) {
  const address = URL.createObjectURL(file);
  if (kind === "image") return image(address, "The picture that was asked with");
  if (kind === "shape3d") return null;
  const made = PLAYERS[kind](address, `The ${NOUNS[kind]} that was asked with`);
  made.preload = "metadata";
  return made;
}

// one sound or video at a time
document.addEventListener("play", (event) => {
  for (const other of document.querySelectorAll("audio, video")) if (other !== event.target) other.pause();
}, true);
