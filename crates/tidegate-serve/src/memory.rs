//! What the process holds in memory, and giving back what it no longer needs.

/// Resident memory of this process, in bytes; `None` where the system does not say (only Linux does, here).
pub fn resident_bytes() -> Option<u64> {
    kibibytes_of(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// What this process may take before the system ends it: the container's limit, or the machine's memory. `None` where the
/// system does not say.
pub fn limit_bytes() -> Option<u64> {
    let read = |path| std::fs::read_to_string(path).ok();
    // `max` where there is no limit.
    let container =
        read("/sys/fs/cgroup/memory.max").or_else(|| read("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    let container = container.and_then(|text| text.trim().parse::<u64>().ok());
    let machine = read("/proc/meminfo").and_then(|text| kibibytes_of(&text, "MemTotal:"));
    container.into_iter().chain(machine).min()
}

fn kibibytes_of(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Hands freed pages back to the system. glibc keeps them otherwise: a server that swaps models would grow to the sum of
/// its peaks. Takes milliseconds; not for the path of a request.
pub fn release_freed() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[expect(unsafe_code, reason = "glibc offers this as a C function only")]
        // SAFETY: `malloc_trim` takes no pointer, is safe to call from any thread, and only returns unused pages.
        unsafe {
            libc::malloc_trim(0);
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_plausible() {
        let bytes = resident_bytes().unwrap();
        assert!((1 << 20..1 << 40).contains(&bytes), "{bytes}");
        assert!(limit_bytes().unwrap() > bytes);
        release_freed();
    }
}
