// Uses the types that openapi-typescript makes of /docs/json, through openapi-fetch: a prompt, a
// conversion, a workflow, a download. Compiled strictly, so that a schema that says less or
// something else fails here.
import createClient from "openapi-fetch";
import type { components, paths } from "./schema";

const [server, modelUrl] = process.argv.slice(2) as [string, string];
type Result = components["schemas"]["Result"];
const client = createClient<paths>({ baseUrl: server });
const prompt: components["schemas"]["Graph"] = {
  "2": { class_type: "EmptyImage", inputs: { width: 64, height: 48, batch_size: 1, color: 255 } },
  "9": { class_type: "SaveImage", inputs: { images: ["2", 0], filename_prefix: "made" } },
};
function check(truth: unknown, what: unknown): asserts truth {
  if (!truth) throw new Error(JSON.stringify(what));
}

async function main() {
  const plain = await client.POST("/prompt", { body: { prompt } });
  check((plain.data as Result).images[0]?.startsWith("iVBOR"), plain.error);
  const converted = await client.POST("/prompt", {
    body: { prompt, convert_output: { format: "jpeg", options: { quality: 70 } } },
  });
  check((converted.data as Result).images[0]?.startsWith("/9j/"), converted.error);
  const workflow = await client.POST("/workflow/txt2img", {
    body: {
      input: { prompt: "a lighthouse", steps: 2 } as components["schemas"]["WorkflowTxt2imgInput"],
    },
  });
  check((workflow.data as Result).filenames.length === 1, workflow.error);
  const download = await client.POST("/download", {
    body: { url: modelUrl, model_type: "loras", filename: "made.safetensors", wait: true },
  });
  check(download.response.status === 200, download.error);
  const wrong = await client.POST("/prompt", {
    body: { prompt: { "1": { class_type: "Nope", inputs: {} } } },
  });
  check(wrong.response.status === 400 && wrong.error?.code, wrong);
  console.log("all of it works");
}
main().catch((error: unknown) => {
  console.error(error);
  process.exit(1);
});
