// What pages do beyond links and forms. Every page works without it.
"use strict";

// Copy buttons: shown only where the browser can copy.
function copyButtons(root) {
  if (!navigator.clipboard) return;
  for (const button of root.querySelectorAll("button.copy[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "copied";
      setTimeout(() => (button.textContent = "copy"), 1500);
    });
  }
}

// A page in the place of this one: only its main part is exchanged, and the address follows.
let loading = null;
async function show(address, replace) {
  if (loading) loading.abort();
  loading = new AbortController();
  try {
    const answer = await fetch(address, { headers: { Accept: "text/html" }, signal: loading.signal });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const part of ["main", ".moment"]) {
      const [ours, theirs] = [document.querySelector(part), page.querySelector(part)];
      if (ours && theirs) ours.replaceWith(document.adoptNode(theirs));
    }
    document.title = page.title;
    history[replace ? "replaceState" : "pushState"](null, "", address);
    begin(document);
  } catch (error) {
    if (error.name !== "AbortError") location.assign(address);
  }
}
addEventListener("popstate", () => location.reload());

// The slider of a run's events: the whole page follows it.
function sliders(root) {
  for (const form of root.querySelectorAll("form.slider")) {
    const range = form.querySelector("input[type=range]");
    const words = form.querySelector("output");
    let timer = 0;
    range.addEventListener("input", () => {
      if (words) words.textContent = range.value + " of " + range.max;
      clearTimeout(timer);
      timer = setTimeout(() => {
        const query = new URLSearchParams(new FormData(form));
        const focused = document.activeElement === range;
        show(form.action.split("?")[0] + "?" + query, true).then(() => {
          if (focused) document.querySelector("form.slider input[type=range]")?.focus();
        });
      }, 120);
    });
  }
}

// A timeline: a click or a drag on the chart chooses the nearest restorable point.
function timelines(root) {
  for (const chart of root.querySelectorAll("svg[data-timeline]")) {
    const points = [...chart.querySelectorAll("[data-moment]")].map((dot) => [
      Number(dot.dataset.x), Number(dot.dataset.y), dot.dataset.moment, dot.dataset.words,
    ]);
    const words = document.getElementById(chart.dataset.timeline);
    const nearest = (event) => {
      const box = chart.getBoundingClientRect();
      const scale = chart.viewBox.baseVal.width / box.width;
      const [x, y] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
      const far = (point) => Math.abs(point[0] - x) + 3 * Math.abs(point[1] - y);
      return points.reduce((best, point) => (!best || far(point) < far(best) ? point : best), null);
    };
    let held = false;
    const tell = (event) => {
      const point = nearest(event);
      if (point && words) words.textContent = point[3];
      return point;
    };
    chart.addEventListener("pointermove", (event) => (held || event.pointerType === "mouse") && tell(event));
    chart.addEventListener("pointerdown", (event) => { held = true; tell(event); });
    chart.addEventListener("pointerup", (event) => {
      if (!held) return;
      held = false;
      const point = tell(event);
      if (point && !event.target.closest("a")) location.assign(chart.dataset.base + "@" + point[2] + "/runs");
    });
  }
}

// A list that follows a live node.
function tails(root) {
  for (const body of root.querySelectorAll("tbody[data-follow]")) {
    const stream = new EventSource(body.dataset.follow);
    stream.onmessage = (message) => {
      const event = JSON.parse(message.data);
      if (body.querySelector('tr[data-seq="' + Number(event.seq) + '"]')) return;
      const row = document.createElement("tr");
      row.className = "fresh";
      row.dataset.seq = event.seq;
      const cells = [event.seq, event.ts, event.kind, event.op ?? "", event.name ?? "", ""];
      for (const text of cells) row.appendChild(document.createElement("td")).textContent = text;
      row.lastChild.appendChild(document.createElement("code")).textContent = JSON.stringify(event.data ?? null).slice(0, 200);
      body.appendChild(row);
      while (body.rows.length > 500) body.deleteRow(0);
      // Nothing follows the end; the browser would ask again and again.
      if (["run_completed", "run_failed", "run_cancelled"].includes(event.kind)) stream.close();
    };
    addEventListener("pagehide", () => stream.close(), { once: true });
  }
}

// A page that waits for a restore looks again by itself; asking before a change is done.
function waits(root) {
  const wait = root.querySelector("[data-again]");
  if (wait) setTimeout(() => show(location.href, true), Number(wait.dataset.again));
  for (const button of root.querySelectorAll("button[data-ask]")) {
    button.addEventListener("click", (event) => {
      if (!confirm(button.dataset.ask)) event.preventDefault();
    });
  }
}

function begin(root) {
  copyButtons(root);
  sliders(root);
  timelines(root);
  tails(root);
  waits(root);
}
begin(document);

// The keyboard: / to the search, j and k through a list.
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName)) return;
  if (event.key === "/") {
    const search = document.querySelector("form.filters input, textarea");
    if (search) { event.preventDefault(); search.focus(); }
  } else if (event.key === "j" || event.key === "k") {
    const links = [...document.querySelectorAll("tr[data-row] a[data-open], li[data-row] a[data-open]")];
    const at = links.indexOf(document.activeElement);
    const next = links[Math.max(0, Math.min(links.length - 1, at + (event.key === "j" ? 1 : -1)))];
    if (next) { next.focus(); next.scrollIntoView({ block: "nearest" }); }
  }
});
