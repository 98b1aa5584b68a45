//! When things break: the websocket, ComfyUI, the start, the end. A prompt never hangs, and nothing is lost or mixed.

mod comfyui;
mod killed;
mod load;
mod shutdown;
mod start;
mod watch;
mod websocket;
