//! What processes cost, as Linux tells it. Elsewhere nothing is known.

use std::collections::BTreeSet;
use std::fs::read_to_string;
use std::time::Duration;

/// Ticks a second of the times in `/proc`; 100 on every Linux that is in use.
const TICKS_PER_SECOND: f64 = 100.0;

/// User and system time of a process and of its children that live.
pub fn cpu_of(pid: u32) -> Option<Duration> {
    let ticks: f64 = family(pid).into_iter().filter_map(ticks_of).sum();
    (ticks > 0.0).then(|| Duration::from_secs_f64(ticks / TICKS_PER_SECOND))
}

/// What a process and its children hold: pages that several share count as a part for each.
pub fn memory_mb(pid: u32) -> Option<f64> {
    let of = |pid| {
        let text = read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()
    };
    let kib: Vec<f64> = family(pid).into_iter().filter_map(of).collect();
    (!kib.is_empty()).then(|| kib.iter().sum::<f64>() * 1024.0 / 1e6)
}

/// Of the last minute.
pub fn load_average() -> String {
    let text = read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}

/// A process and whoever descends from it.
fn family(root: u32) -> BTreeSet<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<_> = pids.filter_map(|pid| Some((pid, *fields(pid)?.get(1)? as u32))).collect();
    let mut family = BTreeSet::from([root]);
    loop {
        let n_known = family.len();
        let children = parents.iter().filter(|(_, parent)| family.contains(parent)).map(|(pid, _)| *pid);
        let children: Vec<_> = children.collect();
        family.extend(children);
        if family.len() == n_known {
            return family;
        }
    }
}

fn ticks_of(pid: u32) -> Option<f64> {
    let fields = fields(pid)?;
    // utime and stime, the 14th and 15th of proc(5).
    Some(fields.get(11)? + fields.get(12)?)
}

/// The fields after the name, which may hold spaces; the state, a letter, is not a number.
fn fields(pid: u32) -> Option<Vec<f64>> {
    let text = read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = text.rsplit_once(") ")?;
    Some(rest.split(' ').map(|field| field.trim().parse().unwrap_or(f64::NAN)).collect())
}
