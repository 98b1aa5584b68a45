/**
 * One run: submitted, followed, and what became of it. It goes on while other pages are looked at.
 */

import { effect, signal } from "../kernel.js";
import { t } from "../i18n.js";
import { ApiError, follow, json } from "../api.js";
import { isGateway, queue, runs } from "../live.js";
import { hasEnded } from "../ui.js";

/**
 * @typedef {{
 *   status: string,
 *   position?: number,
 *   node?: string,
 *   step?: number,
 *   steps?: number,
 *   percent: number,
 * }} State
 */
/** @typedef {{url: string, received: number, total: number | null}} Fetching */
/**
 * @typedef {{
 *   path: string,
 *   body: any,
 *   label: string,
 *   classes: Record<string, string>,
 *   code: {path: string, body: any},
 * }} Request
 */

const HIDDEN = { percent: 0 };

/** An id as the server would make it; `crypto.randomUUID` exists on secure origins only. */
export function uuid() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const text = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return text.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

export class Run {
  /** @param {Request} request */
  constructor(request) {
    this.request = request;
    this.id = String(request.body.id);
    this.label = request.label;
    this.begun = Date.now();
    this.classes = { ...request.classes };
    this.state = signal(/** @type {State} */ ({ status: "sending", ...HIDDEN }));
    /** An object URL; at most one at a time. */
    this.preview = signal("");
    this.fetching = signal(/** @type {Fetching[]} */ ([]));
    this.error = signal(/** @type {Error | null} */ (null));
    /** The run as history has it. @type {import("../kernel.js").Signal<any>} */
    this.result = signal(/** @type {any} */ (null));
    /** Whether it never began: the server did not take it. */
    this.refused = signal(false);
    this.ended = signal(0);
    this.collecting = false;
    /** Whether the server knows it; before that there is nothing to follow. */
    this.known = signal(false);
    this.stopEffect = effect(() => this.#fromLive());
  }

  /** Sends it. Errors stay in `error`, too. */
  async submit() {
    try {
      const answer = await json(this.request.path, {
        method: "POST",
        json: {
          ...this.request.body,
          keep: true,
          async: true,
          extra_data: { preview_method: "auto", ...this.request.body.extra_data },
        },
      });
      for (const [id, node] of Object.entries(answer.prompt ?? {}))
        this.classes[id] = /** @type {any} */ (node)?.class_type ?? id;
      this.known.set(true);
      if (this.state.peek().status === "sending") this.change({ status: "pending" });
    } catch (error) {
      if (error instanceof ApiError && error.code === "execution_interrupted")
        return this.#end("interrupted");
      this.refused.set(!this.known.peek());
      this.error.set(/** @type {Error} */ (error));
      this.#end("failed");
      throw error;
    }
    return undefined;
  }

  /** @param {Partial<State>} part */
  change(part) {
    if (this.ended.peek()) return;
    this.state.update((state) => ({ ...state, ...part }));
  }

  #fromLive() {
    const all = queue();
    const entry =
      all &&
      [...(all.running ?? []), ...(all.pending ?? []), ...(all.finished ?? [])].find(
        (one) => one.id === this.id,
      );
    this.#take(entry ?? runs()?.find((one) => one.id === this.id));
  }

  /** @param {any} entry */
  #take(entry) {
    if (!entry || this.ended.peek()) return;
    this.known.set(true);
    if (hasEnded(entry.status)) {
      void this.collect();
      return;
    }
    const { progress } = entry;
    this.change({
      status: entry.status,
      position: entry.position,
      ...(progress
        ? {
            percent: Math.max(progress.percent ?? 0, this.state.peek().percent),
            node: progress.node ?? undefined,
          }
        : {}),
    });
  }

  /** Follows it closely: steps, previews, downloads. Until `stop`. @param {AbortSignal} stop */
  async watch(stop) {
    for (let tries = 0; !stop.aborted && !this.ended.peek() && tries < 40; tries += 1) {
      try {
        await follow(`prompt/${encodeURIComponent(this.id)}/events`, {
          signal: stop,
          onEvent: (event, data) => this.#event(event, data),
        });
        if (!this.ended.peek() && !stop.aborted) await new Promise((go) => setTimeout(go, 500));
      } catch {
        // not known yet, or the connection is gone: the queue tells the rest
        await new Promise((go) => setTimeout(go, Math.min(5000, 150 * 1.5 ** tries)));
      }
    }
  }

  /** @param {string} event @param {any} message */
  #event(event, message) {
    if (event === "complete" || event === "error") {
      void this.collect();
      return;
    }
    const data = message.data ?? {};
    switch (message.type) {
      case "state":
        this.#take({ ...data, id: this.id });
        break;
      case "executing":
        if (data.node)
          this.change({ status: "running", node: data.node, step: undefined, steps: undefined });
        break;
      case "progress":
        this.change({
          status: "running",
          node: data.node ?? this.state.peek().node,
          step: data.value,
          steps: data.max,
        });
        break;
      case "progress_state":
        this.#estimate(data.nodes ?? {});
        break;
      case "binary_preview":
        this.#show(data);
        break;
      case "file_download_progress":
        this.fetching.update((all) => [
          ...all.filter((one) => one.url !== data.url),
          { url: data.url, received: data.downloaded, total: data.total },
        ]);
        break;
      default:
    }
  }

  /**
   * How far it is where the queue does not say: a gateway's has no progress.
   * @param {Record<string, any>} nodes
   */
  #estimate(nodes) {
    if (!isGateway()) return;
    const parts = Object.values(nodes).map((one) =>
      one.state === "finished" ? 1 : one.state === "running" && one.max ? one.value / one.max : 0,
    );
    const all = Math.max(parts.length, Object.keys(this.classes).length);
    const percent = (parts.reduce((sum, part) => sum + part, 0) / all) * 100;
    if (percent > this.state.peek().percent) this.change({ percent: Math.min(99, percent) });
  }

  /** @param {any} data */
  #show(data) {
    if (this.ended.peek() || !/^image\/(png|jpeg|webp)$/.test(data.image_type)) return;
    const bytes = Uint8Array.from(atob(data.image_data), (letter) => letter.charCodeAt(0));
    const last = this.preview.peek();
    this.preview.set(URL.createObjectURL(new Blob([bytes], { type: data.image_type })));
    if (last) URL.revokeObjectURL(last);
  }

  /** The end, with everything that history knows. */
  async collect() {
    if (this.collecting || this.ended.peek()) return;
    this.collecting = true;
    for (let tries = 0; tries < 25; tries += 1) {
      try {
        const item = await json(`history/${encodeURIComponent(this.id)}`);
        if (hasEnded(item.status)) {
          this.result.set(item);
          if (item.status === "failed" && !this.error.peek())
            this.error.set(
              new ApiError(
                500,
                typeof item.error === "object" && item.error
                  ? { error: item.error.message ?? item.error.error, ...item.error }
                  : { error: item.error ?? t("The run has failed.") },
              ),
            );
          this.#end(item.status);
          return;
        }
        // It goes on after all: ComfyUI died of it, and it has begun anew. The stream says when it
        // has ended.
        if (tries > 6) {
          this.collecting = false;
          return;
        }
      } catch (error) {
        if (error instanceof ApiError && error.status !== 404) {
          this.error.set(error);
          this.#end("failed");
          return;
        }
      }
      await new Promise((go) => setTimeout(go, Math.min(2000, 80 * 1.4 ** tries)));
    }
    this.error.set(new Error(t("What became of this run is not known: see the history.")));
    this.#end("failed");
  }

  /** @param {string} status */
  #end(status) {
    if (this.ended.peek()) return;
    this.state.update((state) => ({
      ...state,
      status,
      percent: status === "succeeded" ? 100 : state.percent,
    }));
    this.ended.set(Date.now());
    this.stopEffect();
    const last = this.preview.peek();
    this.preview.set("");
    if (last) URL.revokeObjectURL(last);
    this.fetching.set([]);
  }

  async cancel() {
    await json(`prompt/${encodeURIComponent(this.id)}`, { method: "DELETE" });
  }
}

/** The state in words: what the live region says. @param {Run} run */
export function words(run) {
  const { status, position, node } = run.state();
  switch (status) {
    case "sending":
    case "preprocessing":
      return t("Preparing");
    case "pending":
      return position ? t("Waiting, position {n}", { n: position }) : t("Waiting");
    case "running":
      return node
        ? t("Running {node}", {
            node: run.classes[node] ?? run.classes[node.split(".")[0]] ?? node,
          })
        : t("Running");
    case "postprocessing":
      return t("Converting");
    case "uploading":
      return t("Uploading");
    case "succeeded":
      return t("Done");
    case "interrupted":
      return t("Cancelled");
    default:
      return t("Failed");
  }
}
