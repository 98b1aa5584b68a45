//! real_comfyui
