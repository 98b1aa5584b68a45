//! How much memory a process has.

/// Of `/proc/<pid>/status`, in bytes: `VmRSS` is what it has now, `VmHWM` the most it ever had.
pub fn of(pid: u32, figure: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
    let kibibytes = line.unwrap().split_whitespace().next().unwrap();
    kibibytes.parse::<u64>().unwrap() * 1024
}

/// What this process has now, in bytes.
pub fn resident() -> u64 {
    of(std::process::id(), "VmRSS")
}
