/**
 * What surrounds every page: the bar, the banner of a lost connection, the sign-in, notices, keys.
 */

import { effect, h, list, scope, signal } from "./kernel.js";
import { t } from "./i18n.js";
import { asked, key, signIn, signOut } from "./api.js";
import { keys } from "./keys.js";
import { connection, nextAttempt, queue, retry, status } from "./live.js";
import { addressOf, PAGES, route } from "./router.js";
import {
  button,
  failed,
  ghosts,
  icon,
  iconButton,
  notices,
  now,
  sentence,
  uniqueId,
} from "./ui.js";

/**
 * @type {Record<string, {
 *   title: () => string,
 *   icon: string,
 *   load: () => Promise<{default: (id: string) => Element}>,
 * }>}
 */
const pages = {
  playground: {
    title: () => t("Playground"),
    icon: "play",
    load: () => import("./pages/playground.js"),
  },
  queue: { title: () => t("Queue"), icon: "queue", load: () => import("./pages/queue.js") },
  history: { title: () => t("History"), icon: "history", load: () => import("./pages/history.js") },
  models: { title: () => t("Models"), icon: "models", load: () => import("./pages/models.js") },
  deliveries: {
    title: () => t("Deliveries"),
    icon: "deliveries",
    load: () => import("./pages/deliveries.js"),
  },
  health: { title: () => t("Health"), icon: "health", load: () => import("./pages/health.js") },
};

/** @param {import("./router.js").Route} where */
const titleOf = (where) =>
  where.id ? t("Run {id}", { id: where.id }) : (pages[where.page]?.title() ?? t("Not found"));

/** The state of ComfyUI in one of five words. @param {Record<string, any> | null} state */
export function stateWord(state) {
  if (!state) return "starting";
  const word = String(state.comfyui?.state ?? "").toLowerCase();
  if (/drain|shutting/.test(`${word} ${state.ready ? "" : (state.reason ?? "")}`))
    return "draining";
  if (["starting", "restarting", "down", "draining", "ready"].includes(word)) return word;
  if (["up", "running", "attached", "healthy", "connected"].includes(word)) return "ready";
  if (["dead", "stopped", "failed", "lost", "exited"].includes(word)) return "down";
  return state.ready ? "ready" : "starting";
}

/** @param {HTMLElement} body */
export function mount(body) {
  const main = h("main", { id: "main", tabindex: "-1" });
  const working = () => asked() === null;
  body.replaceChildren(
    h(
      "a",
      {
        class: "skip",
        href: "#main",
        onclick: (/** @type {Event} */ event) => {
          event.preventDefault();
          main.focus();
        },
      },
      t("Skip to content"),
    ),
    topBar(),
    banner(),
    main,
    h(
      "div",
      { class: "notices", role: "status", "aria-label": t("Notices") },
      list(
        notices,
        (one) => one.id,
        (one) => h("p", { class: () => `toast ${one().kind}` }, () => one().text),
      ),
    ),
  );
  showPages(main, working);
  keys(main);
}

const topBar = () =>
  h(
    "header",
    { class: "top" },
    h(
      "div",
      { class: "brand" },
      h("img", { src: "icon.svg", alt: "", width: 28, height: 28 }),
      h("span", null, "comfyui-api"),
    ),
    h(
      "nav",
      { "aria-label": t("Main") },
      PAGES.map((name) =>
        h(
          "a",
          {
            href: addressOf(name),
            "aria-current": () => (route().page === name ? "page" : null),
          },
          icon(pages[name].icon),
          h("span", null, pages[name].title()),
        ),
      ),
    ),
    h("div", { class: "top-end" }, stateBadge(), counts(), themeButton(), () =>
      key() ? iconButton(t("Sign out"), "out", signOut) : null,
    ),
  );

/** @param {HTMLElement} main @param {() => boolean} working */
function showPages(main, working) {
  const content = h("div", { class: "page-holder", hidden: () => !working() });
  const door = h("div");
  main.append(door, content);
  // What was on the page stays while a new key is asked for.
  effect(() => door.replaceChildren(...(working() ? [] : [signInForm(asked() ?? "")])));
  effect(() => {
    document.title = `${working() ? titleOf(route()) : t("Sign in")} - comfyui-api`;
    document.documentElement.dataset.page = route().page;
  });

  /** The playground stays as it was left: what was typed, what runs. @type {Element | null} */
  let playground = null;
  let end = () => {};
  let first = true;
  effect(() => {
    const where = route();
    const entry = pages[where.page];
    end();
    end = () => {};
    if (playground) playground.toggleAttribute("hidden", where.page !== "playground");
    for (const child of [...content.children]) if (child !== playground) child.remove();
    const arrived = () => {
      if (!first)
        /** @type {HTMLElement | null} */ (
          content.querySelector(":scope > :not([hidden]) h1")
        )?.focus({ preventScroll: true });
      first = false;
      if (where.page !== "playground" || !playground) scrollTo(0, 0);
    };
    if (!entry) {
      content.append(
        h(
          "div",
          { class: "page" },
          heading(t("Not found")),
          h("p", null, t("There is no such page.")),
          h("a", { href: "#/" }, t("Try a workflow")),
        ),
      );
      return arrived();
    }
    if (where.page === "playground" && playground) return arrived();
    const waiting = outline(where);
    content.append(waiting);
    let stale = false;
    let ended = () => {};
    end = () => {
      stale = true;
      ended();
    };
    entry.load().then(
      (module) => {
        if (stale) return;
        const made = scope(() => module.default(where.id));
        if (where.page === "playground") playground = made.value;
        else ended = made.end;
        waiting.replaceWith(made.value);
        arrived();
      },
      (error) => waiting.append(failed(error, () => location.reload())),
    );
  });
}

/**
 * What index.html shows, too, before there is a script: nothing moves when the page itself takes
 * its place.
 * @param {import("./router.js").Route} where
 */
const outline = (where) =>
  h(
    "div",
    { class: "page outline" },
    heading(titleOf(where)),
    h("p", { class: "hidden", role: "status" }, t("Loading…")),
    h(
      "div",
      { class: "play", "aria-hidden": "true" },
      h("div", { class: "panel" }, ghosts(10)),
      h("div", { class: "panel" }, ghosts(4)),
    ),
  );

/** @param {string} text @param {...any} rest */
export const heading = (text, ...rest) =>
  h("div", { class: "page-head" }, h("h1", { tabindex: "-1" }, text), ...rest);

function stateBadge() {
  const word = () => stateWord(status());
  const look = () =>
    connection() === "lost" && status() ? "stale" : status() ? word() : "unknown";
  return h(
    "span",
    { class: () => `state ${look()}`, title: () => status()?.reason ?? t("State of ComfyUI") },
    h("span", { class: "dot", "aria-hidden": "true" }),
    h("span", { role: "status", "aria-label": t("Server state") }, () => t(word())),
  );
}

const counts = () =>
  h(
    "span",
    { class: () => `counts${queue() ? "" : " unknown"}` },
    h(
      "span",
      { title: t("Running") },
      icon("play"),
      () => String(queue()?.running?.length ?? 0),
      h("span", { class: "hidden" }, ` ${t("running")}`),
    ),
    h(
      "span",
      { title: t("Waiting") },
      icon("queue"),
      () => String(queue()?.pending?.length ?? 0),
      h("span", { class: "hidden" }, ` ${t("waiting")}`),
    ),
  );

function themeButton() {
  const THEMES = ["system", "light", "dark"];
  const stored = () => {
    try {
      return localStorage.getItem("theme") ?? "system";
    } catch {
      return "system";
    }
  };
  const chosen = signal(stored());
  const next = () => {
    const following = THEMES[(THEMES.indexOf(chosen.peek()) + 1) % THEMES.length];
    try {
      if (following === "system") localStorage.removeItem("theme");
      else localStorage.setItem("theme", following);
    } catch {
      return;
    }
    chosen.set(following);
    dispatchEvent(new Event("themechange"));
  };
  return h(
    "button",
    {
      type: "button",
      class: "quiet square",
      "aria-label": t("Theme"),
      title: () => `${t("Theme")}: ${t(chosen())}`,
      onclick: next,
    },
    () => icon({ system: "system", light: "sun", dark: "moon" }[chosen()] ?? "system"),
  );
}

function banner() {
  const wait = () => Math.max(0, Math.ceil((nextAttempt() - now()) / 1000));
  const text = () => (connection() === "lost" ? t("Connection lost. Trying again by itself.") : "");
  return h(
    "div",
    { class: () => `banner${connection() === "lost" && asked() === null ? "" : " away"}` },
    icon("warning"),
    h("span", { role: "status", "aria-label": t("Connection") }, text),
    () =>
      connection() === "lost"
        ? [
            h("span", { class: "muted", "aria-hidden": "true" }, () =>
              wait() ? `${wait()} s` : "…",
            ),
            button(t("Try now"), retry),
          ]
        : null,
  );
}

/** @param {string} reason */
function signInForm(reason) {
  const error = signal(reason);
  const busy = signal(false);
  const id = uniqueId("key");
  const field = h("input", {
    id,
    type: "password",
    autocomplete: "current-password",
    required: true,
    "aria-describedby": `${id}-help`,
    autofocus: true,
  });
  const submit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    error.set("");
    busy.set(true);
    try {
      await signIn(field.value.trim());
    } catch (problem) {
      error.set(sentence(problem));
      field.select();
    } finally {
      busy.set(false);
    }
  };
  setTimeout(() => field.focus());
  return h(
    "div",
    { class: "sign-in" },
    h(
      "form",
      { class: "panel", onsubmit: submit },
      h("h1", null, t("Sign in")),
      h(
        "p",
        { class: "muted", id: `${id}-help` },
        t("This server asks for one of its API keys. It is kept in this tab only."),
      ),
      () =>
        error()
          ? h(
              "div",
              { class: "notice bad", role: "alert" },
              icon("warning"),
              h("span", null, error),
            )
          : null,
      h("div", { class: "field" }, h("label", { for: id }, t("API key")), field),
      h("button", { type: "submit", class: "primary", disabled: busy }, t("Sign in")),
    ),
  );
}

export { iconButton };
