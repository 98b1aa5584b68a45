// POST /workflow/txt2video: a short video from text with LTX-Video. Needs an ltx-video checkpoint
// in models/checkpoints and a T5 text encoder in models/text_encoders. Only nodes of ComfyUI itself
// are used.

import { z } from "zod";
import config from "../config";
import type { ComfyPrompt, Workflow } from "../types";

const FRAMES_PER_SECOND = 25;

const RequestSchema = z
  .object({
    prompt: z
      .string()
      .min(1)
      .describe("What happens in the video; long and literal descriptions work best"),
    negative_prompt: z
      .string()
      .default("low quality, worst quality, deformed, distorted")
      .describe("What to avoid"),
    width: z
      .number()
      .int()
      .min(256)
      .max(1280)
      .multipleOf(32)
      .default(768)
      .describe("Width in pixels"),
    height: z
      .number()
      .int()
      .min(256)
      .max(1280)
      .multipleOf(32)
      .default(512)
      .describe("Height in pixels"),
    seconds: z.number().min(1).max(10).default(4).describe("Length of the video"),
    seed: z
      .number()
      .int()
      .nonnegative()
      .default(() => Math.floor(Math.random() * Number.MAX_SAFE_INTEGER))
      .describe("Random when left out"),
    steps: z.number().int().min(4).max(60).default(30).describe("Sampling steps"),
    cfg: z.number().min(1).max(10).default(3).describe("How closely to follow the prompt"),
    checkpoint: z.string().default("ltx-video-2b-v0.9.5.safetensors").describe("Checkpoint file"),
    text_encoder: z.string().default("t5xxl_fp16.safetensors").describe("Text encoder file"),
  })
  .strict();

// The model makes 8n + 1 frames.
const frames = (seconds: number): number => Math.round((seconds * FRAMES_PER_SECOND) / 8) * 8 + 1;

function generateWorkflow(input: z.infer<typeof RequestSchema>): ComfyPrompt {
  const known = config.models.checkpoints.all;
  if (known.length > 0 && !known.includes(input.checkpoint)) {
    throw new Error(
      `checkpoint ${input.checkpoint} is not installed, there are: ${known.join(", ")}`,
    );
  }
  return {
    model: { class_type: "CheckpointLoaderSimple", inputs: { ckpt_name: input.checkpoint } },
    clip: { class_type: "CLIPLoader", inputs: { clip_name: input.text_encoder, type: "ltxv" } },
    positive: { class_type: "CLIPTextEncode", inputs: { text: input.prompt, clip: ["clip", 0] } },
    negative: {
      class_type: "CLIPTextEncode",
      inputs: { text: input.negative_prompt, clip: ["clip", 0] },
    },
    conditioning: {
      class_type: "LTXVConditioning",
      inputs: {
        frame_rate: FRAMES_PER_SECOND,
        positive: ["positive", 0],
        negative: ["negative", 0],
      },
    },
    canvas: {
      class_type: "EmptyLTXVLatentVideo",
      inputs: {
        width: input.width,
        height: input.height,
        length: frames(input.seconds),
        batch_size: 1,
      },
    },
    sigmas: {
      class_type: "LTXVScheduler",
      inputs: {
        steps: input.steps,
        max_shift: 2.05,
        base_shift: 0.95,
        stretch: true,
        terminal: 0.1,
        latent: ["canvas", 0],
      },
    },
    sampler: { class_type: "KSamplerSelect", inputs: { sampler_name: "euler" } },
    sample: {
      class_type: "SamplerCustom",
      inputs: {
        add_noise: true,
        noise_seed: input.seed,
        cfg: input.cfg,
        model: ["model", 0],
        positive: ["conditioning", 0],
        negative: ["conditioning", 1],
        sampler: ["sampler", 0],
        sigmas: ["sigmas", 0],
        latent_image: ["canvas", 0],
      },
    },
    decode: { class_type: "VAEDecode", inputs: { samples: ["sample", 0], vae: ["model", 2] } },
    video: { class_type: "CreateVideo", inputs: { fps: FRAMES_PER_SECOND, images: ["decode", 0] } },
    save: {
      class_type: "SaveVideo",
      inputs: { filename_prefix: "txt2video", format: "mp4", codec: "h264", video: ["video", 0] },
    },
  };
}

const workflow: Workflow = {
  RequestSchema,
  generateWorkflow,
  summary: "Text to video",
  description: "Makes a short MP4 from a description with LTX-Video.",
};

export default workflow;
