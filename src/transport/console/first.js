/* Before the first paint: light or dark, the language, and the page that the address names; after
   it, all the modules that this page needs, at once. A plain script, because modules run later, and
   what they take the paint would have to wait for. */
(() => {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    let chosen = null;
    try {
      chosen = localStorage.getItem("theme");
    } catch {
      // no storage: as the system has it
    }
    root.dataset.theme =
      chosen === "light" || chosen === "dark" ? chosen : dark.matches ? "dark" : "light";
  };
  dark.addEventListener("change", apply);
  addEventListener("themechange", apply);
  apply();

  // What every page needs, and what each needs besides (a test compares both with what they
  // import).
  const core =
    "app.js kernel.js i18n.js api.js json.js live.js router.js ui.js shell.js keys.js format.js";
  const forms = "form/form.js form/fields.js form/controls.js form/schema.js form/media-field.js";
  const runs = "files/gallery.js files/media.js play/timings.js play/handoff.js play/run.js";
  /** @type {Record<string, [string, string, string]>} */
  const pages = {
    playground: [
      "Playground",
      "试验场",
      `playground ${forms} ${runs} play/choice.js play/graph.js play/options.js play/run-view.js`,
    ],
    queue: ["Queue", "队列", "queue"],
    history: ["History", "历史", `history run queue rows.js ${runs}`],
    models: ["Models", "模型", `models models/download.js rows.js ${forms} files/media.js`],
    deliveries: ["Deliveries", "投递", "deliveries rows.js"],
    health: [
      "Health",
      "状态",
      "health health/configuration.js health/fleet.js health/log.js health/sparkline.js",
    ],
  };
  const name = /^#\/(\w+)/.exec(location.hash)?.[1] ?? "playground";
  const [english, chinese, modules] = pages[name] ?? pages.playground;
  const spoken = navigator.languages
    .map((tag) => tag.slice(0, 2).toLowerCase())
    .find((tag) => tag === "zh" || tag === "en");
  const title = spoken === "zh" ? chinese : english;
  root.lang = spoken === "zh" ? "zh-CN" : "en";
  root.dataset.page = name;
  root.style.setProperty("--title", JSON.stringify(title));
  document.title = `${title} - comfyui-api`;
  const parts = modules.split(" ").map((part) => (/\W/.test(part) ? part : `pages/${part}.js`));
  const needed = new Set([...core.split(" "), ...parts, ...(spoken === "zh" ? ["zh.js"] : [])]);

  let begun = false;
  const begin = () => {
    if (begun) return;
    begun = true;
    /** @param {string} tag @param {Record<string, string>} properties */
    const add = (tag, properties) =>
      document.head.append(Object.assign(document.createElement(tag), properties));
    for (const href of needed) add("link", { rel: "modulepreload", href });
    add("script", { type: "module", src: "app.js" });
  };
  new PerformanceObserver(begin).observe({ type: "paint", buffered: true });
  setTimeout(begin, 250); // a tab in the background paints nothing
})();
