//! The built-in ComfyUI stand-in: faithful protocol, fake pixels, scriptable faults.

/// Stub.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Stub.
///
/// # Errors
/// Never.
pub async fn run(_args: Args) -> Result<(), std::io::Error> {
    Ok(())
}
