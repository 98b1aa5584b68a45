//! The child process: spawning, output, readiness, stopping.
