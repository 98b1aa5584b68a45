//! What an operator sees and does (console.md, "What the API gains"): through the socket, as the console and curl do.

mod downloads;
mod status;
