// The console's own script: the filter, the sign that the page is live, and one key. No framework; htmx does the rest.
"use strict";

(() => {
  const filter = { text: "", states: new Set(), marks: new Set() };
  const input = () => document.getElementById("filter");

  function read() {
    const wanted = new URLSearchParams(location.search);
    filter.text = (wanted.get("q") || "").trim().toLowerCase();
    filter.states = new Set(wanted.getAll("state"));
    filter.marks = new Set(wanted.getAll("mark"));
    if (input()) input().value = wanted.get("q") || "";
  }

  function write() {
    const wanted = new URLSearchParams();
    if (filter.text) wanted.set("q", filter.text);
    for (const state of filter.states) wanted.append("state", state);
    for (const mark of filter.marks) wanted.append("mark", mark);
    const page = new URLSearchParams(location.search).get("page");
    if (page) wanted.set("page", page);
    const query = wanted.toString();
    history.replaceState(null, "", query ? `?${query}` : location.pathname);
  }

  function matches(tile) {
    if (filter.states.size && !filter.states.has(tile.dataset.state)) return false;
    const marks = tile.dataset.marks.split(" ");
    for (const mark of filter.marks) if (!marks.includes(mark)) return false;
    return filter.text.split(/\s+/).every((word) => tile.dataset.find.includes(word));
  }

  // Nodes that do not match fade and stay where they are, so that the map keeps its shape.
  function apply() {
    const active = Boolean(filter.text || filter.states.size || filter.marks.size);
    let shown = 0;
    for (const tile of document.querySelectorAll(".tile")) {
      const match = !active || matches(tile);
      tile.classList.toggle("faded", !match);
      tile.tabIndex = match ? 0 : -1;
      if (match) shown += 1;
    }
    for (const key of document.querySelectorAll(".key")) {
      const pressed = filter.states.has(key.dataset.state) || filter.marks.has(key.dataset.mark);
      key.setAttribute("aria-pressed", String(pressed));
    }
    const none = document.getElementById("no-match");
    if (none) none.hidden = shown > 0;
  }

  function toggle(set, value) {
    if (!set.delete(value)) set.add(value);
    write();
    apply();
  }

  function live(on) {
    const sign = document.getElementById("live");
    if (!sign) return;
    sign.dataset.live = on ? "on" : "off";
    sign.querySelector("span").textContent = on ? "live" : "reconnecting";
  }

  document.addEventListener("click", (event) => {
    const key = event.target.closest(".key");
    if (!key) return;
    if (key.dataset.state) toggle(filter.states, key.dataset.state);
    else toggle(filter.marks, key.dataset.mark);
  });
  document.addEventListener("input", (event) => {
    if (event.target.id !== "filter") return;
    filter.text = event.target.value.trim().toLowerCase();
    write();
    apply();
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== input() && input()) {
      event.preventDefault();
      input().focus();
    } else if (event.key === "Enter" && event.target === input()) {
      // A large fleet is drawn some racks at a time: the server knows in which of them the first match is.
      const map = document.getElementById("map");
      if (map && map.dataset.paged === "yes" && filter.text) location.assign(`/?q=${encodeURIComponent(filter.text)}`);
    } else if (event.key === "Escape" && document.querySelector(".fleet")) {
      history.replaceState(null, "", location.pathname);
      read();
      apply();
    }
  });
  document.addEventListener("htmx:sseOpen", () => live(true));
  document.addEventListener("htmx:sseError", () => live(false));
  // A page that is told of a node that it does not show needs no word about it in the browser's log.
  document.addEventListener("htmx:oobErrorNoTarget", (event) => event.stopPropagation());

  // What somebody has unfolded stays so when the part of the page around it is drawn again.
  const unfolded = new Set();
  document.addEventListener("toggle", (event) => {
    const { id, open } = event.target;
    if (!id || event.target.tagName !== "DETAILS") return;
    if (open) unfolded.add(id);
    else unfolded.delete(id);
  }, true);
  document.addEventListener("htmx:afterSwap", () => {
    for (const id of unfolded) {
      const found = document.getElementById(id);
      if (found) found.open = true;
    }
  });

  let due = 0;
  for (const name of ["htmx:oobAfterSwap", "htmx:afterSwap"]) {
    document.addEventListener(name, () => {
      cancelAnimationFrame(due);
      due = requestAnimationFrame(apply);
    });
  }
  read();
  apply();
})();
