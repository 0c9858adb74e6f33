"use strict";
// Puts recorded pictures up as text. Everything recorded goes through textContent; nothing is asked of a network.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { styles, rows, frames, marks, about, length } = data;
  const SNAPSHOT_EVERY = 256;
  const IDLE_MS = 2000;
  const TICK_MS = 16;

  const make = (tag, parent, text) => {
    const element = document.createElement(tag);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
  };
  const clock = (ms) => {
    const s = Math.floor(ms / 1000), pad = (n) => String(n).padStart(2, "0");
    return Math.floor(s / 3600) + ":" + pad(Math.floor(s / 60) % 60) + ":" + pad(s % 60);
  };

  // The page around the screen.
  const header = make("header", document.body);
  if (about.verdict.startsWith("UNVERIFIED")) header.className = "unverified";
  make("b", header, about.verdict);
  make("span", header, "  " + about.title + ", from " + new Date(about.opened).toISOString()
    + ". A page proves nothing: verify the recording.");
  const details = make("details", header);
  make("summary", details, "verdict, signer, ledger" + (data.abridged ? " (abridged: runaway control sequences)" : ""));
  make("pre", details, about.lines.join("\n"));
  make("pre", details, "space: play or pause; left, right: 5 s; [ ]: marks; < >: speed; /: search; n N: next, before; "
    + "a moment as a link: #t=seconds");
  const main = make("main", document.body);
  const screen = make("div", main);
  screen.id = "screen";
  const list = make("aside", document.body);
  const footer = make("footer", document.body);
  const button = make("button", footer, "play");
  const slider = make("input", footer);
  slider.type = "range";
  slider.max = String(length);
  slider.value = "0";
  const time = make("span", footer);
  time.id = "time";
  const speed = make("select", footer);
  for (const n of [0.25, 0.5, 1, 1.5, 2, 4, 8, 16]) make("option", speed, n + "x").value = String(n);
  speed.value = "1";
  const idleLabel = make("label", footer);
  const idle = make("input", idleLabel);
  idle.type = "checkbox";
  make("span", idleLabel, "short pauses");
  const box = make("input", footer);
  box.placeholder = "search screens";
  const said = make("span", footer);
  said.id = "said";

  // Screens: what each picture leaves, kept now and then so that any time is near one.
  const snapshots = [];
  const apply = (state, frame) => {
    if (frame.s) {
      state.size = frame.s;
      state.shown = state.shown.slice(0, frame.s[1]);
    }
    if (frame.up) state.shown.splice(0, frame.up);
    while (state.shown.length < state.size[1]) state.shown.push(-1);
    for (let i = 0; i < frame.r.length; i += 2) state.shown[frame.r[i]] = frame.r[i + 1];
    state.cursor = frame.c || null;
  };
  const copy = (state) => ({ size: state.size, shown: state.shown.slice(), cursor: state.cursor });
  const first = { size: [80, 24], shown: [], cursor: null };
  {
    const state = copy(first);
    frames.forEach((frame, i) => {
      if (i % SNAPSHOT_EVERY === 0) snapshots.push(copy(state));
      apply(state, frame);
    });
  }
  /// The number of the last picture at or before a time; -1 before the first.
  const frameAt = (ms) => {
    let low = 0, high = frames.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (frames[middle].t <= ms) low = middle + 1; else high = middle;
    }
    return low - 1;
  };
  let state = copy(first), at = -1;
  const go = (frame) => {
    if (frame < at || frame - at > SNAPSHOT_EVERY) {
      const start = Math.floor(Math.max(frame, 0) / SNAPSHOT_EVERY);
      state = copy(snapshots[start] || first);
      at = start * SNAPSHOT_EVERY - 1;
    }
    while (at < frame) apply(state, frames[++at]);
  };

  // Drawing.
  let pattern = "";
  const textOf = (row) => (rows[row] || []).map((run) => run[1]).join("");
  const paint = (element, style) => {
    const [fg, bg, flags] = style;
    const inverse = flags & 32;
    if (fg || inverse) element.style.color = inverse ? (bg || "#101010") : fg;
    if (bg || inverse) element.style.backgroundColor = inverse ? (fg || "#d0d0d0") : bg;
    if (flags & 1) element.style.fontWeight = "bold";
    if (flags & 2) element.style.opacity = "0.6";
    if (flags & 4) element.style.fontStyle = "italic";
    if (flags & 24) element.style.textDecoration = (flags & 8 ? "underline " : "") + (flags & 16 ? "line-through" : "");
  };
  const drawRow = (line, row, cursor) => {
    line.replaceChildren();
    const text = textOf(row).toLowerCase();
    const found = new Set();
    for (let i = pattern ? text.indexOf(pattern) : -1; i >= 0; i = text.indexOf(pattern, i + 1)) {
      for (let j = 0; j < pattern.length; j++) found.add(i + j);
    }
    let index = 0, column = 0;
    for (const [number, run] of rows[row] || []) {
      const style = styles[number], wide = style[2] & 64;
      let part = null, kind = null;
      for (const c of run) {
        const now = wide ? "wide" : column === cursor ? "cursor" : found.has(index) ? "found" : "";
        if (part === null || now !== kind || wide) {
          part = make("span", line, "");
          if (now === "" || wide) paint(part, style);
          if (now) part.className = now;
          kind = now;
        }
        part.textContent += c;
        index += c.length;
        column += wide ? 2 : 1;
      }
    }
    if (cursor >= column) make("span", line, " ".repeat(cursor - column));
    if (cursor >= column) make("span", line, " ").className = "cursor";
  };
  const drawn = [];
  const draw = () => {
    while (screen.children.length > state.size[1]) screen.lastChild.remove(), drawn.pop();
    while (screen.children.length < state.size[1]) make("div", screen), drawn.push(null);
    screen.style.width = state.size[0] + "ch";
    for (let y = 0; y < state.size[1]; y++) {
      const cursor = state.cursor && state.cursor[1] === y ? state.cursor[0] : -1;
      const key = state.shown[y] + " " + cursor + " " + pattern;
      if (drawn[y] !== key) drawRow(screen.children[y], state.shown[y], cursor), drawn[y] = key;
    }
  };

  // Time.
  let now = 0, playing = false, last = 0;
  const show = () => {
    go(frameAt(now));
    draw();
    slider.value = String(now);
    time.textContent = clock(now + about.from) + " / " + clock(length + about.from);
    button.textContent = playing ? "pause" : "play";
  };
  const seek = (ms) => {
    now = Math.min(Math.max(ms, 0), length);
    show();
  };
  const tick = () => {
    if (!playing) return;
    const stamp = performance.now();
    now += Math.min(stamp - last, 250) * Number(speed.value);
    last = stamp;
    const next = frames[at + 1];
    // A long pause is cut at its end, so that times stay those of the recording.
    if (idle.checked && next && at >= 0 && next.t - frames[at].t > IDLE_MS && now - frames[at].t > IDLE_MS / 2) {
      now = Math.max(now, next.t - IDLE_MS / 2);
    }
    if (now >= length) now = length, playing = false;
    show();
    if (playing) setTimeout(tick, TICK_MS);
  };
  const toggle = () => {
    playing = !playing;
    if (playing && now >= length) now = 0;
    show();
    last = performance.now();
    if (playing) setTimeout(tick, TICK_MS);
  };

  // Marks.
  for (const mark of marks) {
    make("div", list, clock(mark.t + about.from) + "  " + mark.kind + ": " + mark.text).onclick = () => seek(mark.t);
  }
  const mark = (way) => {
    const there = marks.filter((m) => way > 0 ? m.t > now : m.t < now);
    const next = way > 0 ? there[0] : there[there.length - 1];
    if (next) seek(next.t), said.textContent = next.kind + ": " + next.text;
    else said.textContent = "no mark that way";
  };

  // Search: pictures in which a row comes up that has the text.
  const search = (way) => {
    const wanted = box.value.toLowerCase();
    pattern = wanted;
    if (!wanted) return draw();
    const has = rows.map((_, row) => textOf(row).toLowerCase().includes(wanted));
    const hit = (frame) => frames[frame].r.some((row, i) => i % 2 === 1 && has[row]);
    let frame = at + way;
    while (frame >= 0 && frame < frames.length && !hit(frame)) frame += way;
    if (frame < 0 || frame >= frames.length) said.textContent = "no hit that way", draw();
    else playing = false, seek(frames[frame].t), said.textContent = "hit at " + clock(now + about.from);
  };

  button.onclick = toggle;
  slider.oninput = () => seek(Number(slider.value));
  box.onkeydown = (event) => {
    event.stopPropagation();
    if (event.key === "Enter") search(event.shiftKey ? -1 : 1), box.blur();
    if (event.key === "Escape") box.blur();
  };
  document.onkeydown = (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target === speed) return;
    const faster = (way) => { speed.selectedIndex = Math.min(Math.max(speed.selectedIndex + way, 0), speed.options.length - 1); };
    const act = {
      " ": toggle,
      ArrowLeft: () => seek(now - 5000),
      ArrowRight: () => seek(now + 5000),
      Home: () => seek(0),
      End: () => seek(length),
      "[": () => mark(-1),
      "]": () => mark(1),
      "<": () => faster(-1),
      ">": () => faster(1),
      "/": () => { box.focus(); },
      n: () => search(1),
      N: () => search(-1),
    }[event.key];
    if (act) event.preventDefault(), act();
  };

  const link = new URLSearchParams(location.hash.slice(1));
  seek(Number(link.get("t") || 0) * 1000 - about.from);
  if (link.has("find")) box.value = link.get("find"), search(1);
  if (link.has("play")) toggle();
})();
