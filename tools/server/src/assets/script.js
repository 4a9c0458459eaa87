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
})();
