//! A program for which file locks do not work.

/// Starts a program for which the kernel refuses every lock on a file, as file systems without them
/// do (ENOLCK for `flock`).
pub(super) const WITHOUT_LOCKS: &str = r#"
import ctypes, os, platform, struct, sys
flock = {"x86_64": 73, "aarch64": 32}[platform.machine()]
ops = [(0x20, 0, 0, 0), (0x15, 0, 1, flock), (0x06, 0, 0, 0x00050000 | 37), (0x06, 0, 0, 0x7FFF0000)]
code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *op) for op in ops))
program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(ops), ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, program, 0, 0):
    sys.exit("seccomp: " + os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// Why file locks cannot be taken from a program here, if so.
pub fn why_locks_stay() -> Option<String> {
    let probe = std::process::Command::new(crate::support::peer_process::python())
        .args(["-c", WITHOUT_LOCKS, "/bin/true"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&probe.stderr).into_owned();
    (!probe.status.success()).then_some(said)
}
