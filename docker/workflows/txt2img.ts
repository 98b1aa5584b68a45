// POST /workflow/txt2img: an image from text, with any checkpoint in models/checkpoints.
// The schema below is the whole contract: it validates requests, fills in defaults, and is shown in
// /docs.

import { z } from "zod";
import config from "../config";
import type { ComfyPrompt, Workflow } from "../types";

// Names of real files, as ComfyUI lists them at this moment. The warm-up's checkpoint is the
// default if there is one.
const checkpoints = config.models.checkpoints;

const RequestSchema = z.object({
  prompt: z.string().min(1).describe("What the image shows"),
  negative_prompt: z.string().default("").describe("What it must not show"),
  width: z.number().int().min(64).max(2048).multipleOf(8).default(512).describe("Width in pixels"),
  height: z
    .number()
    .int()
    .min(64)
    .max(2048)
    .multipleOf(8)
    .default(512)
    .describe("Height in pixels"),
  batch_size: z.number().int().min(1).max(8).default(1).describe("Images in one go"),
  seed: z
    .number()
    .int()
    .nonnegative()
    .default(() => Math.floor(Math.random() * Number.MAX_SAFE_INTEGER))
    .describe("The same seed gives the same image; random when left out"),
  steps: z.number().int().min(1).max(100).default(20).describe("Sampling steps"),
  cfg: z.number().min(0).max(30).default(7).describe("How closely to follow the prompt"),
  sampler: config.samplers.default("euler").describe("Sampler"),
  scheduler: config.schedulers.default("normal").describe("Scheduler"),
  checkpoint: (checkpoints.enum as z.ZodType<string>)
    .default(config.warmupCkpt ?? checkpoints.all[0])
    .describe("Checkpoint file"),
});

function generateWorkflow(input: z.infer<typeof RequestSchema>): ComfyPrompt {
  return {
    model: { class_type: "CheckpointLoaderSimple", inputs: { ckpt_name: input.checkpoint } },
    positive: { class_type: "CLIPTextEncode", inputs: { text: input.prompt, clip: ["model", 1] } },
    negative: {
      class_type: "CLIPTextEncode",
      inputs: { text: input.negative_prompt, clip: ["model", 1] },
    },
    canvas: {
      class_type: "EmptyLatentImage",
      inputs: { width: input.width, height: input.height, batch_size: input.batch_size },
    },
    sample: {
      class_type: "KSampler",
      inputs: {
        seed: input.seed,
        steps: input.steps,
        cfg: input.cfg,
        sampler_name: input.sampler,
        scheduler: input.scheduler,
        denoise: 1,
        model: ["model", 0],
        positive: ["positive", 0],
        negative: ["negative", 0],
        latent_image: ["canvas", 0],
      },
    },
    decode: { class_type: "VAEDecode", inputs: { samples: ["sample", 0], vae: ["model", 2] } },
    save: {
      class_type: "SaveImage",
      inputs: { filename_prefix: "txt2img", images: ["decode", 0] },
    },
  };
}

const workflow: Workflow = {
  RequestSchema,
  generateWorkflow,
  summary: "Text to image",
  description: "Draws an image from a description.",
};

export default workflow;
