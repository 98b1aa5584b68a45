//! The built-in ComfyUI stand-in: faithful protocol, fake pixels, scriptable faults.
