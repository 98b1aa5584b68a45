/** Options of a run: what becomes of its files, who is told, how often it runs. */

import { h, scope, signal } from "../kernel.js";
import { t } from "../i18n.js";
import { schemaForm } from "../form/form.js";
import { uniqueId } from "../ui.js";

const quality = (/** @type {number} */ value) => ({
  type: "integer",
  minimum: 1,
  maximum: 100,
  default: value,
  title: t("Quality"),
});
const flag = (/** @type {string} */ title) => ({ type: "boolean", title });
const word = (/** @type {string} */ title, /** @type {string} */ placeholder) => ({
  type: "string",
  title,
  placeholder,
});
const needed = (/** @type {string} */ title, /** @type {string} */ placeholder) => ({
  ...word(title, placeholder),
  minLength: 1,
});
const keep = { keep_metadata: flag(t("Keep the workflow inside")) };
const jpeg = {
  quality: quality(80),
  progressive: flag(t("Progressive")),
  mozjpeg: flag("mozjpeg"),
  chromaSubsampling: { type: "string", enum: ["4:2:0", "4:4:4"], title: t("Chroma subsampling") },
  ...keep,
};
const video = {
  fps: { type: "number", exclusiveMinimum: 0, title: t("Frames a second") },
  crf: { type: "integer", minimum: 0, maximum: 63, title: "CRF" },
  codec: word(t("Codec"), "libx264"),
  preset: word(t("Preset"), "medium"),
  bitrate: word(t("Bit rate"), "4M"),
};
const sound = {
  codec: word(t("Codec"), "libmp3lame"),
  bitrate: word(t("Bit rate"), "192k"),
  frequency: { type: "integer", minimum: 1, title: t("Frequency (Hz)") },
};

/** @returns {Record<string, Record<string, any>>} */
const formats = () => ({
  jpeg,
  png: {
    compressionLevel: { type: "integer", minimum: 0, maximum: 9, title: t("Compression level") },
    ...keep,
  },
  webp: {
    quality: quality(80),
    lossless: flag(t("Lossless")),
    effort: { type: "integer", minimum: 0, maximum: 6, title: t("Effort") },
    ...keep,
  },
  mp4: video,
  webm: video,
  gif: { fps: video.fps },
  mp3: sound,
  wav: { frequency: sound.frequency },
  ogg: sound,
});

/**
 * @returns {Record<string, {title: string, required: string[], properties: Record<string, any>}>}
 */
const targets = () => ({
  s3: {
    title: "S3",
    required: ["bucket"],
    properties: {
      bucket: needed(t("Bucket"), "outputs"),
      prefix: { ...word(t("Prefix"), "runs/"), default: "" },
    },
  },
  azure_blob_upload: {
    title: "Azure Blob",
    required: ["container"],
    properties: {
      container: needed(t("Container"), "outputs"),
      blob_prefix: word(t("Prefix"), "runs/"),
    },
  },
  hf_upload: {
    title: "Hugging Face",
    required: ["repo"],
    properties: {
      repo: needed(t("Repository"), "owner/name"),
      repo_type: { type: "string", enum: ["model", "dataset"], title: t("Type") },
      revision: word(t("Revision"), "main"),
      directory: word(t("Directory"), "/"),
    },
  },
  http_upload: {
    title: "HTTP",
    required: ["url_prefix"],
    properties: {
      url_prefix: {
        type: "string",
        minLength: 1,
        format: "uri",
        title: t("URL prefix"),
        placeholder: "https://",
      },
    },
  },
});

/**
 * A form that stays when the effect that has made it runs again.
 * @template T
 * @param {() => T} make
 * @returns {T}
 */
const lasting = (make) => scope(make).value;

/** A choice whose options have names. @param {string} title @param {[string, string][]} pairs */
const named = (title, pairs) => ({
  type: "string",
  title,
  enum: pairs.map(([value]) => value),
  names: pairs.map(([, name]) => name),
  default: "",
});

/** What every run can have: a format, an archive, a target. @param {any} from */
const basicForm = (from) =>
  schemaForm(
    {
      type: "object",
      properties: {
        format: named(t("Output format"), [
          ["", t("As it is")],
          ...Object.keys(formats()).map((key) => /** @type {[string, string]} */ ([key, key])),
        ]),
        archive: named(t("Archive"), [
          ["", t("None")],
          ["zip", "zip"],
          ["tar", "tar"],
          ["tar.gz", "tar.gz"],
        ]),
        target: named(t("Upload target"), [
          ["", t("None")],
          ...Object.entries(targets()).map(
            ([key, one]) => /** @type {[string, string]} */ ([key, one.title]),
          ),
        ]),
      },
    },
    {
      format: from.convert_output?.format ?? "",
      archive: from.compress_outputs === true ? "zip" : from.compress_outputs || "",
      target: Object.keys(targets()).find((key) => from[key]) ?? "",
    },
    "",
  );

/** Who is told, and what the run is called. @param {any} from */
const otherForm = (from) =>
  schemaForm(
    {
      type: "object",
      properties: {
        webhook_v2: { type: "string", format: "uri", title: t("Webhook"), placeholder: "https://" },
        id: {
          type: "string",
          title: t("Id"),
          maxLength: 256,
          description: t("Begins every file name; default: a random one."),
        },
      },
    },
    { webhook_v2: from.webhook_v2 },
    "",
  );

/** @param {string} format @param {any} from */
const formatForm = (format, from) =>
  schemaForm(
    { type: "object", properties: formats()[format] },
    from.convert_output?.format === format ? from.convert_output?.options : undefined,
    "convert_output.options",
  );

/** @param {string} target @param {any} from */
const targetForm = (target, from) =>
  schemaForm(
    {
      type: "object",
      required: targets()[target].required,
      properties: {
        ...targets()[target].properties,
        ...(target === "s3" || target === "azure_blob_upload"
          ? { signed_url: flag(t("Signed URLs")) }
          : {}),
      },
    },
    { ...from[target], signed_url: from.signed_url },
    target,
  );

/**
 * A form that depends on what a field says, made anew when that changes.
 * @param {(value: string) => import("../form/form.js").Form} make
 * @param {(value: string) => string} title
 */
function dependent(make, title) {
  /** @type {import("../form/form.js").Form | null} */
  let form = null;
  let shown = "?";
  const element = h("div");
  return {
    element,
    form: () => form,
    /** @param {string} value */
    follow(value) {
      if (value === shown) return;
      shown = value;
      form = value ? lasting(() => make(value)) : null;
      element.replaceChildren(
        ...(form
          ? [h("fieldset", { class: "group" }, h("legend", null, title(value)), form.element)]
          : []),
      );
    },
  };
}

/** How often it runs. */
function runsField() {
  const id = uniqueId("runs");
  const input = h("input", { id, type: "number", min: 1, max: 50, step: 1, value: "1" });
  return {
    element: h(
      "div",
      { class: "field" },
      h("div", { class: "label-line" }, h("label", { for: id }, t("Runs"))),
      input,
      h("p", { class: "help" }, t("More than one: seeds differ.")),
    ),
    count: () => Math.min(50, Math.max(1, Math.floor(Number(input.value)) || 1)),
  };
}

/** @param {any} [from] fields of a request that is opened again */
export function options(from = {}) {
  const [basic, other, runs] = [basicForm(from), otherForm(from), runsField()];
  const [format, archive, target] = basic.fields;
  const ofFormat = dependent(
    (value) => formatForm(value, from),
    (value) => t("Options of {format}", { format: value }),
  );
  const ofTarget = dependent(
    (value) => targetForm(value, from),
    (value) => targets()[value].title,
  );
  const chosen = signal({ format: format.value() ?? "", target: target.value() ?? "" });
  for (const one of [format, target])
    one.element.addEventListener("change", () =>
      chosen.set({ format: format.value() ?? "", target: target.value() ?? "" }),
    );
  const follow = () => {
    ofFormat.follow(chosen().format);
    ofTarget.follow(chosen().target);
    return null;
  };
  const forms = () =>
    [basic, other, ofFormat.form(), ofTarget.form()].filter((one) => one !== null);
  return {
    element: h(
      "div",
      { class: "fields" },
      runs.element,
      format.element,
      ofFormat.element,
      archive.element,
      target.element,
      ofTarget.element,
      other.element,
      follow,
    ),
    count: runs.count,
    check: () =>
      forms()
        .map((one) => one.check())
        .every(Boolean),
    locate: (/** @type {string | undefined} */ location) =>
      forms()
        .map((one) => one.locate(location))
        .find(Boolean),
    /** The fields of the request. */
    values() {
      /** @type {Record<string, any>} */
      const body = {};
      const { webhook_v2, id } = other.values();
      if (id) body.id = id;
      const f = format.value();
      if (f)
        body.convert_output = {
          format: f,
          options: used(ofFormat.form()?.values(), formats()[f]),
        };
      if (archive.value()) body.compress_outputs = archive.value();
      if (webhook_v2) body.webhook_v2 = webhook_v2;
      const u = target.value();
      if (u) {
        const { signed_url, ...values } = ofTarget.form()?.values() ?? {};
        body[u] = values;
        if (signed_url) body.signed_url = true;
      }
      return body;
    },
  };
}

/**
 * Without what is as it would be anyway.
 * @param {any} values
 * @param {Record<string, any>} schema
 */
const used = (values, schema) =>
  Object.fromEntries(
    Object.entries(values ?? {}).filter(
      ([name, value]) => value !== false && value !== schema[name]?.default,
    ),
  );
