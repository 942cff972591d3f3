"use strict";
// SPDX-License-Identifier: AGPL-3.0-or-later
// The page for people: asks /status again and again and draws it. Whatever the server says goes in as
// text, never as markup. Nothing is kept but the last minutes, in memory.
(() => {
  const EVERY = 2000, HIDDEN = 15000, LATE = 8000, KEEP = 150, ROWS = 100, QUEUES = 20, MAP_FROM = 12, TROUBLES = 20;
  const $ = (id) => document.getElementById(id);
  const plain = new Intl.NumberFormat("en");
  const GOOD = { running: "running", idle: "idle", waiting_for_retry: "waiting for retry" };
  const WORDS = {
    stream_down: "stream down", queue_missing: "queue missing", breaker_open: "breaker open",
    visibility_timeout_short: "lease too short", dead_letter_refused: "dead letters refused",
    handler_stuck: "handler stuck", handler_given_up: "handler given up", handler_failing: "handler failing", paused: "paused", overleased: "overleased", draining: "draining", gone: "removed",
  };
  const MARKS = { good: "●", warn: "▲", bad: "■", off: "○" };
  let history = [], last = null, lastAt = 0, held = false, showAll = false, allQueues = false, onlyState = "";
  let timer = 0, failures = 0, why = "", restarted = 0, runs = 0;

  // ---- Small things ----

  const element = (tag, text, className) => {
    const e = document.createElement(tag);
    if (text !== undefined) e.textContent = text;
    if (className) e.className = className;
    return e;
  };
  const setText = (e, text) => { if (e.textContent !== text) e.textContent = text; };
  const setClass = (e, name) => { if (e.className !== name) e.className = name; };
  // What stands between backticks as code; the rest as text.
  const setRich = (e, text) => {
    if (e.dataset.text === text) return;
    e.dataset.text = text;
    e.replaceChildren(...text.split("`").map((part, i) => i % 2 ? element("code", part) : part));
  };
  const count = (n) => n < 100000 ? plain.format(n) : n < 1e6 ? (n / 1e3).toFixed(0) + " k" : n < 1e9 ? (n / 1e6).toFixed(1) + " M" : (n / 1e9).toFixed(1) + " G";
  const rate = (n) => n === null ? "–" : n >= 100 ? count(Math.round(n)) : n >= 10 || n === 0 ? n.toFixed(0) : n.toFixed(1);
  const time = (ms) => {
    if (ms === null || ms === undefined) return "–";
    const sign = ms < 0 ? "-" : "", m = Math.abs(ms);
    if (m === 0) return "0";
    if (m < 10 && m % 1) return sign + m.toFixed(1) + " ms";
    if (m < 1000) return sign + Math.round(m) + " ms";
    if (m < 60000) return sign + (m / 1000).toFixed(m < 10000 ? 1 : 0) + " s";
    if (m < 3600000) return sign + Math.floor(m / 60000) + " min" + (m % 60000 >= 1000 ? " " + Math.floor(m % 60000 / 1000) + " s" : "");
    if (m < 86400000) return sign + Math.floor(m / 3600000) + " h " + Math.floor(m % 3600000 / 60000) + " min";
    return sign + Math.floor(m / 86400000) + " d " + Math.floor(m % 86400000 / 3600000) + " h";
  };
  const done = (c) => c.finished.acked + c.finished.dead_lettered + c.finished.dropped;
  const failed = (c) => Object.values(c.failures).reduce((a, b) => a + b, 0);
  const kindOf = (q) => q.state in GOOD ? (q.state === "running" ? "good" : q.state === "idle" ? "off" : "warn")
    : q.state === "gone" || q.state === "draining" ? "off" : q.troubles.some((t) => t.unready) ? "bad" : "warn";

  // Below which time lies that part of what a histogram has counted; null = it has counted nothing.
  const quantile = (edges, counts, part) => {
    const all = counts.reduce((a, b) => a + b, 0);
    if (!all) return null;
    let sum = 0;
    for (let i = 0; i < counts.length; i++) {
      if (counts[i] && sum + counts[i] >= part * all) {
        if (i >= edges.length) return edges[edges.length - 1];
        const from = i ? edges[i - 1] : 0;
        return from + (edges[i] - from) * (part * all - sum) / counts[i];
      }
      sum += counts[i];
    }
    return edges[edges.length - 1];
  };
  const minus = (a, b) => a.map((n, i) => n - (b ? b[i] : 0));
  const plus = (a, b) => b ? a.map((n, i) => n + b[i]) : a;

  // ---- What has happened since the answer before ----

  const totals = (s) => {
    const t = { at: Date.parse(s.now), run: runs, done: 0, failed: 0, counts: null, edges: null, queues: new Map() };
    for (const q of s.queues) {
      const key = q.queue + "\u0000" + q.handler;
      const one = t.queues.get(key) || { done: 0, failed: 0, counts: null };
      one.done += done(q.count);
      one.failed += failed(q.count);
      one.counts = plus(q.handler_duration.counts, one.counts);
      t.queues.set(key, one);
      t.done += done(q.count);
      t.failed += failed(q.count);
      t.counts = plus(q.handler_duration.counts, t.counts);
      t.edges = q.handler_duration.upto_ms;
    }
    return t;
  };

  const remember = (s) => {
    const t = totals(s), before = history[history.length - 1];
    if (before && t.at <= before.at) return;
    if (before && before.run !== t.run) {
      t.again = true;
    } else if (before) {
      const seconds = (t.at - before.at) / 1000, counts = minus(t.counts || [], before.counts);
      t.doneRate = Math.max(0, t.done - before.done) / seconds;
      t.failedRate = Math.max(0, t.failed - before.failed) / seconds;
      t.p50 = quantile(t.edges || [], counts, 0.5);
      t.p95 = quantile(t.edges || [], counts, 0.95);
    }
    history.push(t);
    if (history.length > KEEP) history.shift();
  };

  // Of one queue, over about ten seconds.
  const pace = (q) => {
    const now = history[history.length - 1], then = now && history.slice(-6).find((t) => t.run === now.run);
    const key = q.queue + "\u0000" + q.handler, a = now && now.queues.get(key), b = then && then.queues.get(key);
    if (!a || !b || now === then) return { rate: null, p95: null };
    return { rate: Math.max(0, a.done - b.done) / ((now.at - then.at) / 1000),
      p95: quantile(q.handler_duration.upto_ms, minus(a.counts, b.counts), 0.95) };
  };

  // ---- Tables ----

  // Makes the body's rows as many as `items` and lets `fill` write each; rows and cells are used again.
  const rows = (id, items, make, fill) => {
    const body = $(id).tBodies[0];
    while (body.rows.length > items.length) body.deleteRow(-1);
    while (body.rows.length < items.length) body.append(make());
    items.forEach((item, i) => fill(body.rows[i].cells, item, body.rows[i]));
  };
  const maker = (id, first, classes) => {
    const names = [...$(id).tHead.rows[0].cells].map((c) => c.textContent);
    return () => {
      const tr = document.createElement("tr");
      names.forEach((name, i) => {
        const cell = element(i === first ? "th" : "td", "", classes[i]);
        if (i === first) cell.scope = "row";
        cell.dataset.name = name;
        tr.append(cell);
      });
      return tr;
    };
  };
  const N = "n";
  const makeQueue = maker("queues", 0, ["", "", N, N, N, N, N, N, N, N, N]);
  const makeHeld = maker("held", -1, ["", "long", "id", "", N, N, N]);
  const makeRecent = maker("recent", -1, [N, "long", "", "long", "id", N]);

  const badge = (cell, kind, text) => {
    const span = cell.firstElementChild || cell.appendChild(element("span"));
    setClass(span, "badge " + kind);
    setText(span, MARKS[kind] + " " + text);
  };
  const number = (cell, n, text) => {
    setText(cell, text === undefined ? count(n) : text);
    cell.classList.toggle("zero", !n);
  };

  const least = (q) => q.held.reduce((m, h) => m === null || h.lease_left_ms < m ? h.lease_left_ms : m, null);
  const stateOf = (q) => GOOD[q.state] || WORDS[q.state] || q.state;
  const troubled = (q) => q.troubles.some((t) => t.unready) ? 0 : q.troubles.length ? 1 : 2;
  const filter = () => $("filter").value.trim().toLowerCase();
  const has = (wanted, ...texts) => !wanted || texts.join(" ").toLowerCase().includes(wanted);

  // How many queues are in each state, worst first; each is a button that shows only those.
  const drawGlance = (served) => {
    const states = new Map(), order = ["bad", "warn", "good", "off"], box = $("glance");
    for (const q of served) {
      const one = states.get(stateOf(q)) || { text: stateOf(q), kind: kindOf(q), count: 0 };
      one.count++;
      states.set(one.text, one);
    }
    if (onlyState && !states.has(onlyState)) states.set(onlyState, { text: onlyState, kind: "off", count: 0 });
    const list = [...states.values()].sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind) || (a.text < b.text ? -1 : 1));
    while (box.children.length > list.length) box.lastElementChild.remove();
    while (box.children.length < list.length) {
      const button = element("button");
      button.type = "button";
      button.addEventListener("click", () => { onlyState = onlyState === button.value ? "" : button.value; draw(); });
      box.append(button);
    }
    list.forEach((one, i) => {
      const button = box.children[i];
      button.value = one.text;
      setClass(button, one.kind);
      setText(button, MARKS[one.kind] + " " + count(one.count) + " " + one.text);
      button.setAttribute("aria-pressed", String(onlyState === one.text));
    });
    const map = $("map");
    map.hidden = served.length < MAP_FROM; // a mark for each queue, in the order of the config
    if (map.hidden) return;
    while (map.children.length > served.length) map.lastElementChild.remove();
    while (map.children.length < served.length) map.append(element("span"));
    served.forEach((q, i) => {
      const kind = kindOf(q);
      setClass(map.children[i], kind);
      map.children[i].title = q.queue + ": " + stateOf(q);
    });
  };

  const drawQueues = (s) => {
    const served = s.queues.filter((q) => q.state !== "gone"), wanted = filter();
    drawGlance(served);
    const fits = served.filter((q) => (!onlyState || stateOf(q) === onlyState)
      && (has(wanted, q.queue, q.handler, stateOf(q)) || q.held.some((h) => has(wanted, h.id))));
    const list = fits.map((q, i) => ({ q, i })).sort((a, b) => troubled(a.q) - troubled(b.q) || a.i - b.i).map((e) => e.q);
    const shown = allQueues ? list : list.slice(0, QUEUES);
    rows("queues", shown, makeQueue, (c, q) => {
      const p = pace(q), kind = kindOf(q), left = least(q);
      const bad = failed(q.count), dead = q.count.finished.dead_lettered;
      setText(c[0], q.queue);
      c[0].title = "handler: " + q.handler + (q.handler_version ? " " + q.handler_version : "");
      badge(c[1], kind, stateOf(q));
      number(c[2], q.count.running, q.count.running + " of " + q.concurrency);
      number(c[3], q.count.held);
      number(c[4], q.count.retry_waiting);
      number(c[5], p.rate, rate(p.rate));
      number(c[6], p.p95, time(p.p95));
      number(c[7], q.count.finished.acked);
      number(c[8], bad);
      number(c[9], dead);
      c[9].classList.toggle("lost", dead > 0);
      number(c[10], left, time(left));
    });
    $("queues").parentElement.hidden = !list.length;
    $("queues-none").hidden = list.length > 0;
    setText($("queue-count"), list.length < served.length ? list.length + " of " + served.length
      : shown.length < list.length ? list.length + ", " + shown.length + " shown, those with troubles first" : String(served.length));
    $("all-queues").hidden = list.length <= QUEUES;
    setText($("all-queues"), allQueues ? "Show the first " + QUEUES : "Show all " + list.length + " queues");
  };

  const drawHeld = (s) => {
    const wanted = filter();
    let list = [], all = 0;
    for (const q of s.queues) {
      all += q.count.held;
      if (onlyState && stateOf(q) !== onlyState) continue;
      for (const h of q.held || []) if (has(wanted, q.queue, h.id, h.state)) list.push({ q, h });
    }
    list.sort((a, b) => a.h.lease_left_ms - b.h.lease_left_ms);
    const shown = showAll ? list : list.slice(0, ROWS);
    rows("held", shown, makeHeld, (c, { q, h }) => {
      const part = Math.max(0, Math.min(1, h.lease_left_ms / q.visibility_timeout_seen_ms));
      const kind = part < 0.1 ? "bad" : part < 0.3 ? "warn" : "";
      if (!c[0].firstElementChild) {
        const box = element("span", undefined, "lease"), bar = element("span", undefined, "bar");
        bar.append(element("i"));
        bar.setAttribute("aria-hidden", "true");
        box.append(bar, element("span"));
        c[0].append(box);
      }
      const bar = c[0].firstElementChild.firstElementChild.firstElementChild;
      bar.style.width = (part * 100).toFixed(0) + "%";
      setClass(bar, kind);
      setText(c[0].firstElementChild.lastElementChild, time(h.lease_left_ms) + (h.lease_left_ms <= 0 ? " over" : ""));
      setText(c[1], q.queue);
      setText(c[2], h.id);
      setText(c[3], h.state + (h.due_in_ms === undefined ? "" : ", again in " + time(h.due_in_ms)));
      number(c[4], h.tries);
      setText(c[5], time(h.running_ms === undefined ? h.held_ms : h.running_ms));
      setText(c[6], time(h.age_ms === undefined ? null : h.age_ms));
    });
    const some = wanted || onlyState;
    setText($("held-count"), all ? count(all) + (some ? ", " + count(list.length) + " match" : "")
      + (shown.length < list.length ? ", the " + shown.length + " with the least lease left" : "")
      + (!some && list.length < all ? ", " + count(list.length) + " listed" : "") : "");
    $("held").parentElement.hidden = !list.length;
    $("held-none").hidden = list.length > 0;
    setText($("held-none"), all && some ? "Nothing matches." : "Nothing is held.");
    $("all").hidden = list.length <= ROWS;
    setText($("all"), showAll ? "Show the first " + ROWS : "Show all " + count(list.length));
  };

  const drawRecent = (s) => {
    const list = [];
    const wanted = filter();
    for (const q of s.queues) {
      if (onlyState && stateOf(q) !== onlyState) continue;
      for (const r of q.recent || []) if (has(wanted, q.queue, r.id, r.cause, r.event)) list.push({ q, r });
    }
    list.sort((a, b) => a.r.ago_ms - b.r.ago_ms);
    rows("recent", list.slice(0, 50), makeRecent, (c, { q, r }) => {
      setText(c[0], time(r.ago_ms));
      c[0].title = r.at;
      setText(c[1], q.queue);
      badge(c[2], r.event === "MESSAGE-DEAD" ? "bad" : "warn", r.event === "MESSAGE-DEAD" ? "dead letter" : r.cause === "none" ? r.event : r.cause);
      c[2].title = r.event;
      setText(c[3], r.error || "–");
      setText(c[4], r.id);
      setText(c[5], r.attempt ? String(r.attempt) : "–");
    });
    $("recent").parentElement.hidden = !list.length;
    $("recent-none").hidden = list.length > 0;
    $("recent-help").hidden = !list.some((e) => e.r.event === "MESSAGE-DEAD");
  };

  // ---- The top ----

  // Queues with the same trouble for the same reason share an entry: a broker that is away is one.
  const troubleGroups = (s) => {
    const groups = new Map();
    for (const q of s.queues) {
      for (const t of q.troubles || []) {
        const key = t.trouble + "\u0000" + t.text.replace(/\d+/g, "0"), group = groups.get(key) || { t, names: [] };
        if (t.for_ms > group.t.for_ms) group.t = t;
        group.names.push(q.queue);
        groups.set(key, group);
      }
    }
    return [...groups.values()].sort((a, b) => b.t.unready - a.t.unready || b.names.length - a.names.length);
  };

  const drawTroubles = (s) => {
    const list = troubleGroups(s), ul = $("trouble-list"), shown = list.slice(0, TROUBLES);
    $("troubles").hidden = !list.length;
    setText($("trouble-count"), shown.length < list.length ? list.length + ", the first " + shown.length : "");
    while (ul.children.length > shown.length) ul.lastElementChild.remove();
    while (ul.children.length < shown.length) {
      const li = element("li"), head = element("p");
      head.append(element("strong"), element("span"));
      li.append(head, element("p", "", "quiet"));
      ul.append(li);
    }
    shown.forEach(({ t, names }, i) => {
      const [head, what] = ul.children[i].children;
      const who = names.length > 4 ? names.slice(0, 3).join(", ") + " and " + (names.length - 3) + " more" : names.join(", ");
      setClass(ul.children[i], t.unready ? "" : "mild");
      setText(head.firstElementChild, who + ": " + (WORDS[t.trouble] || t.trouble));
      setText(head.lastElementChild, " for " + time(t.for_ms) + (t.text ? ": " + t.text.replace(/\b\d{4,} ms\b/g, (ms) => time(parseInt(ms, 10))) : ""));
      setRich(what, t.event + ": " + t.remedy);
    });
  };

  const drawTiles = (s) => {
    const sum = (f) => s.queues.reduce((a, q) => a + (f(q) || 0), 0);
    const now = history[history.length - 1] || {};
    const lost = sum((q) => q.count.finished.lease_lost), dead = sum((q) => q.count.finished.dead_lettered);
    const stuck = sum((q) => q.stuck_handlers);
    const total = (n) => count(n) + " since the start";
    const tiles = [
      ["Done a second", rate(now.doneRate === undefined ? null : now.doneRate), "", total(sum((q) => q.count.finished.acked))],
      ["Failed tries a second", rate(now.failedRate === undefined ? null : now.failedRate), "", total(sum((q) => failed(q.count)))],
      ["Running", count(sum((q) => q.count.running)), " of " + count(sum((q) => q.concurrency)), stuck ? count(stuck) + " stuck" : "none stuck", stuck > 0],
      ["Held", count(sum((q) => q.count.held)), "", count(sum((q) => q.count.retry_waiting)) + " waiting for retry"],
      ["Dead letters", count(dead), "", count(sum((q) => q.count.finished.dropped)) + " dropped", dead > 0],
      ["Leases lost", count(lost), "", count(sum((q) => q.count.finished.duplicate)) + " seen twice", lost > 0],
    ];
    const dl = $("tiles");
    tiles.forEach(([name, value, unit, more, alarm], i) => {
      if (!dl.children[i]) {
        const div = element("div"), dd = element("dd", undefined, "value");
        dd.append(element("span"), element("small"));
        div.append(element("dt", name), dd, element("dd", undefined, "note-line"));
        dl.append(div);
      }
      const [, dd, line] = dl.children[i].children;
      setText(dd.firstElementChild, value);
      setText(dd.lastElementChild, unit);
      setText(line, more);
      setClass(dl.children[i], alarm ? "alarm" : "");
    });
  };

  const nice = (most) => {
    const power = Math.pow(10, Math.floor(Math.log10(most)));
    return [1, 2, 5, 10].map((f) => f * power).find((n) => n >= most);
  };

  const SVG = "http://www.w3.org/2000/svg";
  const LINES = ["under", "a", "b", "again"];
  const plot = (name, a, b, unit, what) => {
    const svg = $("plot-" + name), scale = $("scale-" + name), W = 600, H = 170;
    const points = history.filter((t) => t[a] !== undefined || t.again);
    if (!svg.firstChild) {
      for (const y of [1, H / 2, H - 1]) {
        const line = document.createElementNS(SVG, "line");
        for (const [k, v] of [["x1", 0], ["x2", W], ["y1", y], ["y2", y]]) line.setAttribute(k, v);
        svg.append(line);
      }
      for (const c of LINES) {
        const path = document.createElementNS(SVG, "path");
        path.setAttribute("class", c);
        svg.append(path);
      }
      scale.append(...["y", "y", "y", "x from", "x to"].map((c) => element("span", "", c)));
      setText(scale.children[4], "now");
    }
    const draw = (c, d) => svg.querySelector("path." + c).setAttribute("d", d);
    const top = nice(Math.max(1, ...points.map((t) => Math.max(t[a] || 0, t[b] || 0))));
    const end = points.length ? points[points.length - 1].at : 0, span = Math.max(60000, points.length ? end - points[0].at : 0);
    const x = (t) => (W - (end - t.at) / span * W).toFixed(1);
    [a, b].forEach((key, i) => {
      let line = "", under = "", pen = "M", from = 0, to = 0;
      const close = () => { if (pen === "L") under += "V" + H + "H" + from + "Z"; pen = "M"; };
      for (const t of points) {
        if (t[key] === null || t[key] === undefined) { close(); continue; }
        const y = (H - 1 - t[key] / top * (H - 2)).toFixed(1);
        to = x(t);
        line += pen + to + " " + y + (pen === "M" ? "h.1" : "");
        under += pen + to + " " + y;
        if (pen === "M") from = to;
        pen = "L";
      }
      close();
      draw(LINES[1 + i], line);
      if (!i && name === "rate") draw("under", under);
    });
    draw("again", points.filter((t) => t.again).map((t) => "M" + x(t) + " 0V" + H).join(""));
    const box = svg.getBoundingClientRect(), outer = scale.parentElement.getBoundingClientRect();
    [top, top / 2, 0].forEach((v, i) => {
      setText(scale.children[i], unit(v));
      scale.children[i].style.top = (box.top - outer.top + box.height * i / 2) + "px";
    });
    setText(scale.children[3], time(span) + " ago");
    const now = points[points.length - 1], has = now && now[a] !== undefined;
    setText($(name + "-a"), has ? unit(now[a]) : "–");
    setText($(name + "-b"), has ? unit(now[b]) : "–");
    svg.setAttribute("aria-label", what + (has ? ": " + unit(now[a]) + " and " + unit(now[b]) + " now, scale to " + unit(top) : ", no data yet"));
  };

  const verdict = (kind, text) => {
    setClass($("verdict"), "verdict " + kind);
    setText($("verdict-mark"), MARKS[kind]);
    setText($("verdict-text"), text);
    const title = (kind === "good" ? "" : MARKS[kind] + " ") + text + " · fila-worker";
    if (document.title !== title) document.title = title;
  };

  const drawHead = (s) => {
    const w = s.worker, bad = s.queues.filter((q) => q.ready === false && q.state !== "draining").length;
    setText($("host"), w.host + ":" + w.pid);
    setText($("facts"), "version " + w.version + " · up " + time(w.up_ms) + " · broker " + w.broker + " · config " + w.config_file
      + " (" + w.config_hash.slice(0, 8) + (w.reloads ? ", reloaded " + w.reloads + " times" : "") + ")"
      + (w.reloads_refused ? " · " + w.reloads_refused + " reloads refused" : ""));
    if (w.draining) verdict("warn", "draining, " + time(w.drain_left_ms) + " left");
    else if (s.ready) verdict("good", "ready");
    else verdict("bad", bad ? "not ready: " + bad + " of " + s.queues.filter((q) => q.state !== "gone").length + " queues" : "not ready: starting");
  };

  const drawFresh = () => {
    const age = lastAt ? Date.now() - lastAt : 0, stale = failures > 0 || (!held && lastAt && !document.hidden && age > LATE);
    document.documentElement.classList.toggle("stale", Boolean(stale));
    const at = new Date(lastAt).toLocaleTimeString("en-GB");
    if (stale) verdict("bad", why || (lastAt ? "no answer for " + time(Math.max(age, 1000)).replace(/\.\d/, "") : "no answer"));
    $("gone").hidden = !stale || !lastAt;
    if (stale && lastAt) {
      setRich($("gone"), why ? why + ", since " + at + ". `fila-worker ctl dump` puts what each of its threads does into the log."
        : "The worker does not answer since " + at + ". If it has ended, the last line of its log says why (WORKER-STOP); what it held comes back when its leases end. This page goes on by itself when the worker is back.");
    }
    setText($("fresh"), held ? "paused at " + at : !lastAt ? "no answer yet" : stale ? "what is below is from " + at + "; asking again"
      : Date.now() - restarted < 60000 ? "the worker has restarted" : "updated every 2 s");
  };

  const draw = () => {
    if (!last) return;
    drawHead(last);
    drawTroubles(last);
    drawTiles(last);
    plot("rate", "doneRate", "failedRate", (n) => rate(n), "Messages a second, done and failed tries");
    plot("time", "p50", "p95", (n) => time(n), "Handler time, p50 and p95");
    drawQueues(last);
    drawHeld(last);
    drawRecent(last);
    drawFresh();
  };

  // ---- Asking ----

  const ask = async () => {
    clearTimeout(timer);
    const limit = new AbortController(), stop = setTimeout(() => limit.abort(), 10000);
    try {
      const answer = await fetch("/status", { cache: "no-store", signal: limit.signal });
      why = answer.ok ? "" : "the worker answers " + answer.status + ": " + (await answer.text()).trim().slice(0, 120);
      if (!answer.ok) throw new Error(why);
      const s = await answer.json();
      // In a container its pid is always the same.
      if (last && (s.worker.pid !== last.worker.pid || Math.abs(Date.parse(s.worker.started) - Date.parse(last.worker.started)) > 2000)) {
        restarted = Date.now();
        runs++;
      }
      last = s;
      lastAt = Date.now();
      failures = 0;
      remember(s);
      draw();
    } catch (e) {
      if (!(e instanceof Error) || e.message !== why) why = "";
      failures++;
      drawFresh();
    } finally {
      clearTimeout(stop);
      if (!held) timer = setTimeout(ask, failures ? Math.min(5000, 500 * 2 ** failures) : document.hidden ? HIDDEN : EVERY);
    }
  };

  const hold = () => {
    held = !held;
    $("hold").setAttribute("aria-pressed", String(held));
    setText($("hold"), held ? "Go on" : "Pause");
    drawFresh();
    if (held) clearTimeout(timer); else ask();
  };

  $("hold").addEventListener("click", hold);
  $("all").addEventListener("click", () => { showAll = !showAll; draw(); });
  $("all-queues").addEventListener("click", () => { allQueues = !allQueues; draw(); });
  $("filter").addEventListener("input", () => { if (last) { drawQueues(last); drawHeld(last); drawRecent(last); } });
  document.addEventListener("visibilitychange", () => { if (!document.hidden && !held) ask(); });
  document.addEventListener("keydown", (e) => {
    if (e.ctrlKey || e.metaKey || e.altKey || e.target.matches("input")) {
      if (e.key === "Escape" && e.target.matches("input")) e.target.blur();
      return;
    }
    if (e.key === "p") hold();
    if (e.key === "/") { e.preventDefault(); $("filter").focus(); }
  });
  addEventListener("resize", draw);
  setInterval(drawFresh, 1000);
  ask();
})();
