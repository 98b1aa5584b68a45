//! When things break: the websocket, ComfyUI, the start, the end. A prompt never hangs, and nothing
//! is lost or mixed.

mod comfyui;
mod disk;
mod gpu;
mod killed;
mod load;
mod locks;
mod shutdown;
mod start;
mod tools;
mod watch;
mod websocket;
