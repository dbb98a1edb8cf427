//! How much memory this process may still take, as far as the system says.

use std::fs;
use std::path::{Path, PathBuf};

/// Bytes that could be taken now without swapping: what is free or holds pages of files that can be dropped, and no
/// more than the limits of the control groups around this process leave (a container's, a batch job's). None
/// where the system does not say.
pub(crate) fn available() -> Option<u64> {
    let machine = kilobytes_after(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?;
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let groups = group_folders(&groups, Path::new("/sys/fs/cgroup"));
    Some(groups.iter().filter_map(left).fold(machine, u64::min))
}

/// What the process holds in memory now, in bytes.
pub(crate) fn resident() -> Option<u64> {
    kilobytes_after(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// The same without what it shares with files, which the system can take back, in bytes.
pub(crate) fn resident_of_its_own() -> Option<u64> {
    kilobytes_after(&fs::read_to_string("/proc/self/status").ok()?, "RssAnon:")
}

/// The number on the line that begins with `name`, in bytes.
fn kilobytes_after(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

/// A control group's folder, and its version.
#[derive(Debug, PartialEq, Eq)]
struct Group {
    folder: PathBuf,
    version: u8,
}

/// The group that holds this process' memory, and those around it, from the text of /proc/self/cgroup.
fn group_folders(text: &str, root: &Path) -> Vec<Group> {
    let mut groups = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            continue;
        };
        let (root, version) = match controllers {
            "" => (root.to_owned(), 2),
            names if names.split(',').any(|name| name == "memory") => (root.join("memory"), 1),
            _ => continue,
        };
        let own = root.join(path.trim_start_matches('/'));
        let around = own.ancestors().take_while(|folder| folder.starts_with(&root));
        groups.extend(around.map(|folder| Group {
            folder: folder.to_owned(),
            version,
        }));
    }
    groups
}

/// What the group may still take: its limit less what it holds besides pages of files. None without a limit.
fn left(group: &Group) -> Option<u64> {
    let (limit, held) = match group.version {
        2 => ("memory.max", "anon"),
        _ => ("memory.limit_in_bytes", "total_rss"),
    };
    let limit = fs::read_to_string(group.folder.join(limit)).ok()?;
    // Version 2 writes "max" where there is none.
    let limit: u64 = limit.trim().parse().ok()?;
    let stat = fs::read_to_string(group.folder.join("memory.stat")).ok()?;
    let held = stat.lines().find_map(|line| {
        let (name, number) = line.split_once(' ')?;
        (name == held).then(|| number.parse::<u64>().ok())?
    })?;
    Some(limit.saturating_sub(held))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_all_groups_around_count() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("jobs/memory.max", "1000\n");
        write("jobs/memory.stat", "file 900\nanon 300\n");
        write("jobs/step/memory.max", "max\n");
        write("jobs/step/memory.stat", "anon 200\n");
        write("memory/box/memory.limit_in_bytes", "5000\n");
        write("memory/box/memory.stat", "rss 1\ntotal_rss 1000\n");
        let lefts = |text: &str| -> Vec<u64> {
            let groups = group_folders(text, root.path());
            groups.iter().filter_map(left).collect()
        };
        assert_eq!(lefts("0::/jobs/step\n"), [700]);
        assert_eq!(lefts("7:cpu:/box\n4:hugetlb,memory:/box\n"), [4000]);
        assert_eq!(lefts("0::/\n"), [0; 0]);
    }

    #[test]
    fn numbers_are_kilobytes() {
        let text = "MemTotal:       100 kB\nMemAvailable:    20 kB\n";
        assert_eq!(kilobytes_after(text, "MemAvailable:"), Some(20 * 1024));
        assert!(available().is_none_or(|bytes| bytes > 1_000_000));
        assert!(resident().is_none_or(|bytes| bytes > 1_000_000));
    }
}
