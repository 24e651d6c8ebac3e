// What the pages gain from a script; without it they work as plain forms and links.
"use strict";

const byId = (id) => document.getElementById(id);

function theme() {
  const button = byId("theme");
  const root = document.documentElement;
  const dark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const show = () => {
    button.textContent = dark() ? "Light" : "Dark";
    button.setAttribute("aria-label", dark() ? "Use light colours" : "Use dark colours");
  };
  button.hidden = false;
  show();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* for this page only, then */ }
    show();
  });
}

function upload(form) {
  const input = byId("image");
  const complaint = byId("complaint");
  const button = form.querySelector("button");
  const most = Number(form.dataset.most);
  const complain = (text) => { complaint.textContent = text; complaint.hidden = !text; };
  const room = 2000;  // for what the form puts around the file
  const fits = () => {
    const file = input.files[0];
    if (file && file.size > most - room) {
      complain(`Got ${(file.size / 1e6).toFixed(1)} MB; expected at most ${most / 1e6} MB; choose a smaller image.`);
      return false;
    }
    complain("");
    return true;
  };
  input.addEventListener("change", fits);
  fits();  // a file may have been chosen before this script came, or kept by the browser on going back
  form.addEventListener("submit", (event) => {
    if (!fits()) { event.preventDefault(); return; }
    button.setAttribute("aria-busy", "true");
    button.textContent = "Analysing…";
  });
  window.addEventListener("pageshow", () => {
    button.removeAttribute("aria-busy");
    button.textContent = "Analyse";
  });
  document.addEventListener("dragover", (event) => { event.preventDefault(); form.classList.add("over"); });
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) form.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    form.classList.remove("over");
    const files = event.dataTransfer.files;
    if (!files.length) return;
    if (files.length > 1) { complain(`Got ${files.length} files; expected one image; drop them one by one.`); return; }
    input.files = files;
    form.requestSubmit();
  });
}

function opacity(slider) {
  const show = () => {
    byId("opacity-value").textContent = `${slider.value}\u202f%`;
    for (const map of document.querySelectorAll(".heat")) map.style.setProperty("opacity", slider.value / 100);
  };
  slider.addEventListener("input", show);
  show();
}

function plane(box) {
  const picture = box.querySelector("svg");
  const tip = byId("tip");
  const said = byId("said");
  const dots = [...box.querySelectorAll("path[data-id]")].map((path) => {
    const { e, f } = path.transform.baseVal.consolidate().matrix;
    return { path, x: e, y: f, dim: path.classList.contains("dim") };
  });
  if (!dots.length) return;
  let current = null;

  const place = (dot) => {
    const matrix = picture.getScreenCTM();
    const frame = box.getBoundingClientRect();
    const x = matrix.a * dot.x + matrix.e - frame.left;
    const y = matrix.d * dot.y + matrix.f - frame.top;
    const left = x + 14 + tip.offsetWidth > frame.width ? x - 14 - tip.offsetWidth : x + 14;
    tip.style.setProperty("left", `${Math.max(0, left)}px`);
    tip.style.setProperty("top", `${Math.max(0, Math.min(y - 20, frame.height - tip.offsetHeight))}px`);
  };
  const choose = (dot, aloud) => {
    if (dot === current) return;
    current?.path.classList.remove("on");
    current = dot;
    tip.hidden = !dot;
    if (!dot) return;
    dot.path.classList.add("on");
    dot.path.parentNode.append(dot.path);  // drawn last, over the others
    tip.href = `/images/${dot.path.dataset.id}`;
    const image = new Image();
    image.src = `/images/${dot.path.dataset.id}.png`;
    image.alt = "";
    const text = document.createElement("span");
    text.className = "text";
    text.textContent = dot.path.dataset.text;
    tip.replaceChildren(image, text);
    place(dot);
    if (aloud) said.textContent = `image ${dot.path.dataset.id}, ${dot.path.dataset.text}`;
  };
  const nearest = (event) => {
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(picture.getScreenCTM().inverse());
    let best = null;
    let least = 20 ** 2;
    for (const dot of dots) {
      const far = (dot.x - at.x) ** 2 + (dot.y - at.y) ** 2;
      if (!dot.dim && far < least) { best = dot; least = far; }
    }
    return best;
  };
  const beside = (dx, dy) => {
    if (!current) return dots.find((dot) => !dot.dim) ?? dots[0];
    let best = current;
    let least = Infinity;
    for (const dot of dots) {
      const along = (dot.x - current.x) * dx + (dot.y - current.y) * dy;
      const across = Math.abs((dot.x - current.x) * dy - (dot.y - current.y) * dx);
      if (!dot.dim && dot !== current && along > 0 && along + 2 * across < least) { best = dot; least = along + 2 * across; }
    }
    return best;
  };
  const arrows = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

  box.tabIndex = 0;
  box.setAttribute("role", "application");
  box.addEventListener("pointermove", (event) => choose(nearest(event)));
  box.addEventListener("pointerleave", () => choose(null));
  box.addEventListener("blur", () => choose(null));
  box.addEventListener("click", (event) => {
    const before = current;
    choose(nearest(event));
    // A finger has not pointed before it taps: the first tap shows, the second one opens.
    if (current && (event.pointerType !== "touch" || current === before)) location.href = tip.href;
  });
  box.addEventListener("keydown", (event) => {
    if (arrows[event.key]) { event.preventDefault(); choose(beside(...arrows[event.key]), true); }
    if (event.key === "Enter" && current) location.href = tip.href;
    if (event.key === "Escape") choose(null);
  });
}

for (const each of document.querySelectorAll(".scripted")) each.hidden = false;
theme();
if (byId("drop")) upload(byId("drop"));
if (byId("opacity")) opacity(byId("opacity"));
if (byId("plane")) plane(byId("plane"));
