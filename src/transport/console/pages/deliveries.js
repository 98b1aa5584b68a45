/** Webhooks of jobs and system events: what arrived, what did not, and sending it again. */

import { computed, h, list, onCleanup, signal } from "../kernel.js";
import { plural, t } from "../i18n.js";
import { json } from "../api.js";
import { deliveries, onReconnect } from "../live.js";
import { addressOf } from "../router.js";
import { heading } from "../shell.js";
import * as format from "../format.js";
import { longRows } from "../rows.js";
import {
  attempt,
  badge,
  button,
  cell,
  choice,
  confirm,
  dialog,
  empty,
  failed,
  loading,
  notify,
  searchbox,
  table,
} from "../ui.js";

/** @typedef {Record<string, any>} Item */
/** @typedef {import("../kernel.js").Signal<Item>} Row */

const STATUSES = ["delivered", "failed", "waiting", "sending"];

/**
 * What a delivery is called: the job's id, for events their own.
 * @param {Item} one
 */
const nameOf = (one) => one.prompt_id ?? one.id;

/** All deliveries that are known: the stream's, and the older ones. */
function followed() {
  const older = signal(/** @type {Item[]} */ ([]));
  const failure = signal(/** @type {any} */ (null));
  // The stream begins with the newest fifty; the server knows up to five hundred.
  const load = async () => {
    try {
      const found = await json("deliveries");
      older.set(Array.isArray(found) ? found : (found.items ?? []));
      failure.set(null);
    } catch (error) {
      failure.set(error);
    }
  };
  void load();
  onCleanup(onReconnect(() => void load()));
  const all = computed(() => {
    const live = deliveries() ?? [];
    const known = new Set(live.map((one) => one.id));
    return [...live, ...older().filter((one) => !known.has(one.id))]
      .sort((a, b) => String(b.created_at).localeCompare(String(a.created_at)))
      .slice(0, 500);
  });
  return { all, failure, load };
}

/** @param {Item[]} waiting those that have failed */
async function resendAll(waiting) {
  if (
    !(await confirm(
      t("Resend all failed deliveries?"),
      plural(waiting.length, "{n} delivery failed.", "{n} deliveries failed."),
    ))
  )
    return;
  let [sent, gone] = [0, 0];
  for (const one of waiting) {
    try {
      await json(`deliveries/${encodeURIComponent(one.id)}/resend`, { method: "POST" });
      sent += 1;
    } catch {
      gone += 1;
    }
  }
  notify(
    gone
      ? t("{sent} are sent again; of {gone} the content is gone.", { sent, gone })
      : plural(sent, "{n} is sent again.", "{n} are sent again."),
    gone ? "warn" : "good",
  );
}

export default function page() {
  const [status, text] = [signal(""), signal("")];
  const { all, failure, load } = followed();
  const shown = computed(() =>
    all().filter(
      (one) =>
        (!status() || one.status === status()) &&
        (!text() ||
          `${one.id} ${one.prompt_id ?? ""} ${one.url} ${one.kind}`
            .toLowerCase()
            .includes(text().toLowerCase())),
    ),
  );
  const failedOnes = () => all().filter((one) => one.status === "failed");
  const showAll = () => [status, text].forEach((one) => one.set(""));

  return h(
    "div",
    { class: "page" },
    heading(
      t("Deliveries"),
      h(
        "div",
        { class: "actions" },
        button(t("Resend all failed"), () => void resendAll(failedOnes()), {
          class: "secondary",
          icon: "again",
          disabled: () => !failedOnes().length,
        }),
      ),
    ),
    h(
      "div",
      { class: "filters", role: "search", "aria-label": t("Deliveries") },
      searchbox(t("Filter"), text),
      choice(t("Status"), status, () => [
        ["", t("All")],
        ...STATUSES.map((word) => /** @type {[string, string]} */ ([word, t(word)])),
      ]),
    ),
    () => (failure() && !all().length ? failed(failure(), load) : null),
    h("section", { class: "panel", "aria-label": t("Deliveries") }, deliveryTable(shown), () => {
      if (deliveries() === null && !failure()) return loading();
      return shown().length ? null : nothing(all().length > 0, showAll);
    }),
  );
}

/** @param {() => Item[]} shown */
const deliveryTable = (shown) =>
  table(
    t("Deliveries"),
    [
      [t("Created"), "8.5em"],
      [t("Job"), "24%"],
      [t("Kind"), "7em"],
      [t("Status"), "7em"],
      t("Receiver"),
      [t("Attempts"), "6.5em"],
      [t("Next attempt"), "8.5em"],
      ["", "7em"],
    ],
    longRows(shown, (one) => one.id, row),
    { class: () => `cards fixed${shown().length ? "" : " bare"}` },
  );

/** @param {boolean} filtered @param {() => void} showAll */
const nothing = (filtered, showAll) =>
  filtered
    ? empty(
        "deliveries",
        t("No delivery fits."),
        button(t("Show all"), showAll, { class: "secondary" }),
      )
    : empty(
        "deliveries",
        t("Nothing was delivered by webhook yet."),
        t("Give a run a webhook_v2, and see here whether it arrived."),
      );

/** @param {Row} one */
const row = (one) =>
  h(
    "tr",
    { role: "row" },
    cell(t("Created"), () => format.time(one().created_at), "plain"),
    cell(
      t("Job"),
      () =>
        one().prompt_id
          ? h(
              "a",
              { class: "mono id", href: addressOf("history", one().prompt_id) },
              one().prompt_id,
            )
          : h("span", { class: "mono id" }, one().id),
      "lead",
    ),
    cell(t("Kind"), () => one().kind),
    cell(t("Status"), () => badge(one().status), "side"),
    cell(
      t("Receiver"),
      h("span", { class: "break" }, () => one().url),
      "full",
    ),
    cell(
      t("Attempts"),
      h(
        "button",
        {
          type: "button",
          class: "secondary small",
          "aria-label": () => `${t("Attempts")} ${nameOf(one())}`,
          onclick: () => void attempts(one),
        },
        () => String(one().attempts?.length ?? 0),
        h("span", { class: "hidden" }, t("Attempts")),
      ),
    ),
    cell(t("Next attempt"), () => (one().next_at ? format.time(one().next_at) : null)),
    cell(
      "",
      h(
        "button",
        {
          type: "button",
          class: "secondary small",
          "aria-label": () => `${t("Resend")} ${nameOf(one())}`,
          onclick: () => void resend(one.peek()),
        },
        t("Resend"),
      ),
      "end",
    ),
  );

/** @param {Item} one */
const resend = (one) =>
  attempt(async () => {
    await json(`deliveries/${encodeURIComponent(one.id)}/resend`, { method: "POST" });
    notify(t("It is sent again."), "good");
  });

/** @param {Row} one */
const attempts = (one) =>
  dialog({ title: t("Attempts {id}", { id: nameOf(one.peek()) }), class: "wide" }, () =>
    h(
      "div",
      { class: "scroll", tabindex: "0", role: "group", "aria-label": t("Attempts") },
      table(
        t("Attempts"),
        [t("Time"), t("Answer"), t("Duration")],
        list(
          () =>
            (one().attempts ?? []).map((/** @type {any} */ each, /** @type {number} */ index) => ({
              ...each,
              index,
            })),
          (each) => each.index,
          (each) =>
            h(
              "tr",
              { role: "row" },
              cell(t("Time"), () => format.time(each().at), "lead"),
              cell(
                t("Answer"),
                () =>
                  each().status
                    ? badge(String(each().status), each().status < 300 ? "good" : "bad")
                    : h("span", { class: "break" }, each().error ?? ""),
                "full",
              ),
              cell(t("Duration"), () => format.duration(each().seconds)),
            ),
        ),
        { class: () => `cards${one().attempts?.length ? "" : " bare"}` },
      ),
      () =>
        one().attempts?.length
          ? null
          : h("p", { class: "muted none" }, t("No attempt was made yet.")),
    ),
  );
