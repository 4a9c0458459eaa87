// Makes the pages quicker to use. Everything but new records works without it.
"use strict";
(() => {
  const root = document.documentElement;
  const byId = (id) => document.getElementById(id);

  // Controls that do nothing without a script.
  for (const element of document.querySelectorAll("[data-opens]")) {
    element.hidden = false;
    element.addEventListener("click", () => byId(element.dataset.opens)?.showModal());
  }

  // Colours change at once, and the cookie is the one that the form would set.
  for (const form of document.querySelectorAll("form.theme")) {
    form.addEventListener("submit", (event) => {
      const theme = event.submitter?.value;
      if (!theme) return;
      event.preventDefault();
      document.cookie = `theme=${theme}; Path=/; Max-Age=31536000; SameSite=Strict`;
      if (theme === "system") delete root.dataset.theme;
      else root.dataset.theme = theme;
      for (const button of form.querySelectorAll("button")) {
        button.setAttribute("aria-pressed", String(button.value === theme));
      }
    });
  }

  // A click elsewhere closes an open menu.
  document.addEventListener("click", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });

  const isTyping = (element) =>
    element.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(element.tagName);
  const follow = (selector) => document.querySelector(selector)?.click();

  // Rows are the elements with `data-row`, on any page.
  const move = (step) => {
    const rows = [...document.querySelectorAll("[data-row]")].filter((row) => row.offsetParent);
    if (rows.length === 0) return;
    const current = rows.findIndex((row) => row.contains(document.activeElement));
    const next = rows[Math.min(Math.max(current + step, 0), rows.length - 1)];
    const target = next.matches("a, summary, button") ? next : next.querySelector("a, summary, button") || next;
    target.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  };

  const places = { o: "/", l: "/logs", t: "/traces", u: "/usage", d: "/ledger" };
  let goes = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.key === "Escape") {
      for (const menu of document.querySelectorAll("details.menu[open]")) {
        menu.open = false;
        menu.querySelector("summary").focus();
      }
      if (isTyping(event.target)) event.target.blur();
      return;
    }
    if (isTyping(event.target) || document.querySelector("dialog[open]")) return;
    if (goes && event.timeStamp - goes < 1500 && places[event.key]) {
      goes = 0;
      const link = [...document.querySelectorAll(".nav a")].find((a) => a.pathname === places[event.key]);
      if (link) link.click();
      return;
    }
    goes = 0;
    switch (event.key) {
      case "/": {
        const search = document.querySelector("[data-search]");
        if (!search) return;
        search.focus();
        search.select();
        break;
      }
      case "j": move(1); break;
      case "k": move(-1); break;
      case "n": follow("a[rel=next]"); break;
      case "p": follow("a[rel=prev]"); break;
      case "g": goes = event.timeStamp; break;
      case "?": byId("help")?.showModal(); break;
      default: return;
    }
    event.preventDefault();
  });

  // A range of time is selected by dragging over a chart; without a script, each bar is a link.
  const makeSelectable = (section) => {
    const plot = section.querySelector("svg.chart-plot");
    const bars = plot ? [...plot.querySelectorAll(".chart-bar")] : [];
    if (bars.length < 2) return;
    let start = null;
    let shade = null;
    let dragged = false;
    const at = (event) => {
      const box = plot.getBoundingClientRect();
      return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
    };
    const end = () => {
      shade?.remove();
      start = shade = null;
    };
    // Links and images would be dragged themselves.
    plot.addEventListener("dragstart", (event) => event.preventDefault());
    plot.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      start = { share: at(event), x: event.clientX };
      dragged = false;
    });
    plot.addEventListener("pointermove", (event) => {
      if (!start || (!dragged && Math.abs(event.clientX - start.x) < 5)) return;
      if (!dragged) {
        dragged = true;
        plot.setPointerCapture(event.pointerId);
        shade = document.createElementNS("http://www.w3.org/2000/svg", "rect");
        shade.setAttribute("class", "chart-selection");
        shade.setAttribute("y", "0");
        shade.setAttribute("height", "128");
        plot.append(shade);
      }
      const [from, to] = [start.share, at(event)].sort((a, b) => a - b);
      shade.setAttribute("x", `${from * 100}%`);
      shade.setAttribute("width", `${(to - from) * 100}%`);
    });
    plot.addEventListener("pointerup", (event) => {
      if (!start || !dragged) return end();
      const box = plot.getBoundingClientRect();
      const [from, to] = [start.share, at(event)].sort((a, b) => a - b).map((share) => box.left + share * box.width);
      end();
      // The range ends where bars do, so its times are those of the server.
      const inside = bars.filter((bar) => {
        const hit = bar.querySelector(".chart-hit").getBoundingClientRect();
        return hit.right > from && hit.left < to;
      });
      if (inside.length === 0) return;
      const address = new URL(section.dataset.selects, location.href);
      address.searchParams.set("since", inside[0].dataset.since);
      address.searchParams.set("until", inside[inside.length - 1].dataset.until);
      location.assign(address);
    });
    plot.addEventListener("pointercancel", end);
    // The click that ends a drag is none on the bar below it.
    plot.addEventListener("click", (event) => {
      if (!dragged) return;
      event.preventDefault();
      event.stopPropagation();
      dragged = false;
    }, true);
  };
  document.querySelectorAll("[data-selects]").forEach(makeSelectable);

  // What takes long to count is shown after the page.
  for (const section of document.querySelectorAll("[data-counts]")) {
    fetch(section.dataset.counts)
      .then((answer) => (answer.ok ? answer.text() : ""))
      .then((text) => {
        const whole = new DOMParser().parseFromString(text, "text/html").querySelector("[data-selects]");
        if (!whole) return;
        section.replaceWith(whole);
        makeSelectable(whole);
      })
      .catch(() => {});
  }

  // New records appear above the others. They come as the rows that the server makes.
  const ROWS_MAX = 1000;
  for (const button of document.querySelectorAll("[data-live]")) {
    const list = document.querySelector("[data-rows]");
    const status = document.querySelector("[data-live-status]");
    let source = null;
    const say = (text) => { if (status) status.textContent = text; };
    const stop = () => {
      source?.close();
      source = null;
      button.setAttribute("aria-pressed", "false");
      button.textContent = "Live";
      say("New records are not shown.");
    };
    const run = () => {
      source = new EventSource(button.dataset.live);
      button.setAttribute("aria-pressed", "true");
      button.textContent = "Live";
      say("New records are shown as they arrive.");
      source.addEventListener("message", (event) => {
        const parsed = document.createElement("template");
        parsed.innerHTML = event.data;
        const row = parsed.content.querySelector("li");
        const id = row?.querySelector("details")?.id;
        if (!row || (id && byId(id))) return;
        row.classList.add("is-new");
        setTimeout(() => row.classList.remove("is-new"), 2000);
        list.prepend(row);
        while (list.children.length > ROWS_MAX) list.lastElementChild.remove();
      });
      source.addEventListener("open", () => { button.textContent = "Live"; });
      source.addEventListener("error", () => { button.textContent = source?.readyState === EventSource.CLOSED ? "Live (ended)" : "Live (reconnecting)"; });
    };
    button.hidden = false;
    button.addEventListener("click", () => (source ? stop() : run()));
  }

  // The address that telemetry is sent to is the one of this page.
  for (const element of document.querySelectorAll("[data-origin]")) element.textContent = location.origin;

  // Marks the rows of a trace as their text is typed; Enter asks the server, which searches all of the trace.
  for (const input of document.querySelectorAll("[data-find]")) {
    const rows = [...document.querySelectorAll(".waterfall-record")].map((row) => [row, row.textContent.toLowerCase()]);
    const status = input.form.querySelector("[data-find-status]");
    input.addEventListener("input", () => {
      const wanted = input.value.trim().toLowerCase();
      let count = 0;
      for (const [row, text] of rows) {
        const isFound = wanted !== "" && text.includes(wanted);
        row.classList.toggle("is-found", isFound);
        row.classList.toggle("is-unmatched", wanted !== "" && !isFound);
        count += isFound;
      }
      status.textContent = wanted === "" ? "" : `${count} on this page`;
    });
  }
})();
