// POST /workflow/img2img: an image changed by text. `image` takes a URL or base64; the server
// fetches and places it.

import { z } from "zod";
import config from "../config";
import type { ComfyPrompt, Workflow } from "../types";

const checkpoints = config.models.checkpoints;

const RequestSchema = z.object({
  image: z
    .string()
    .min(1)
    .describe("URL (http, https, s3, ...) or base64 of the image to start from"),
  prompt: z.string().min(1).describe("What the image becomes"),
  negative_prompt: z.string().default("").describe("What it must not show"),
  strength: z
    .number()
    .gt(0)
    .max(1)
    .default(0.7)
    .describe("How much changes: near 0 hardly anything, 1 everything"),
  seed: z
    .number()
    .int()
    .nonnegative()
    .default(() => Math.floor(Math.random() * Number.MAX_SAFE_INTEGER))
    .describe("Random when left out"),
  steps: z.number().int().min(1).max(100).default(20).describe("Sampling steps"),
  cfg: z.number().min(0).max(30).default(7).describe("How closely to follow the prompt"),
  sampler: config.samplers.default("euler").describe("Sampler"),
  scheduler: config.schedulers.default("normal").describe("Scheduler"),
  checkpoint: (checkpoints.enum as z.ZodType<string>)
    .default(config.warmupCkpt ?? checkpoints.all[0])
    .describe("Checkpoint file"),
  mask: z.string().optional().describe("URL or base64 of a mask: only its white part changes"),
});

type Input = z.infer<typeof RequestSchema>;

function generateWorkflow(input: Input): ComfyPrompt {
  const prompt: ComfyPrompt = {
    model: { class_type: "CheckpointLoaderSimple", inputs: { ckpt_name: input.checkpoint } },
    positive: { class_type: "CLIPTextEncode", inputs: { text: input.prompt, clip: ["model", 1] } },
    negative: {
      class_type: "CLIPTextEncode",
      inputs: { text: input.negative_prompt, clip: ["model", 1] },
    },
    source: { class_type: "LoadImage", inputs: { image: input.image } },
    encode: { class_type: "VAEEncode", inputs: { pixels: ["source", 0], vae: ["model", 2] } },
    sample: {
      class_type: "KSampler",
      inputs: {
        seed: input.seed,
        steps: input.steps,
        cfg: input.cfg,
        sampler_name: input.sampler,
        scheduler: input.scheduler,
        denoise: input.strength,
        model: ["model", 0],
        positive: ["positive", 0],
        negative: ["negative", 0],
        latent_image: ["encode", 0],
      },
    },
    decode: { class_type: "VAEDecode", inputs: { samples: ["sample", 0], vae: ["model", 2] } },
    save: {
      class_type: "SaveImage",
      inputs: { filename_prefix: "img2img", images: ["decode", 0] },
    },
  };
  if (input.mask !== undefined) {
    prompt.mask = { class_type: "LoadImageMask", inputs: { image: input.mask, channel: "red" } };
    prompt.masked = {
      class_type: "SetLatentNoiseMask",
      inputs: { samples: ["encode", 0], mask: ["mask", 0] },
    };
    prompt.sample.inputs.latent_image = ["masked", 0];
  }
  return prompt;
}

const workflow: Workflow = {
  RequestSchema,
  generateWorkflow,
  summary: "Image to image",
  description: "Changes an image by a description, all of it or what a mask leaves open.",
};

export default workflow;
