//! What the configuration says of keeping, in the store's terms.

use nix::sys::statvfs::statvfs;
use std::path::Path;
use std::time::Duration;
use vwatch_config::{Keep, KeepRules, Limit, Size};
use vwatch_store::{Retention, Rules, Thin};

/// The rules for a store at `path`; a share of the disk is that of its size now.
pub fn retention(keep: &Keep, path: &Path) -> Retention {
    Retention {
        all: rules(&keep.all, path),
        tables: (keep.tables.iter())
            .map(|(table, rule)| (table.clone(), rules(rule, path)))
            .collect(),
    }
}

fn rules(rules: &KeepRules, path: &Path) -> Rules {
    let thin = |step: &vwatch_config::ThinStep| Thin {
        after_ns: nanoseconds(step.after),
        every_ns: nanoseconds(step.every),
    };
    Rules {
        // A table without a limit of its own age takes that of all, so "unlimited" is the longest time there is.
        keep_ns: rules.keep.map(|keep| keep.value().map_or(u64::MAX, nanoseconds)),
        max_bytes: rules
            .max_bytes
            .and_then(Limit::value)
            .and_then(|size| bytes(size, path)),
        thin: rules.thin.as_ref().map(|steps| steps.iter().map(thin).collect()),
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn bytes(size: Size, path: &Path) -> Option<u64> {
    match size {
        Size::Bytes(bytes) => Some(bytes),
        Size::Share(share) => {
            let dir = path.parent().unwrap_or(Path::new("/"));
            let disk = statvfs(dir).map(|fs| fs.blocks().saturating_mul(fs.fragment_size()));
            match disk {
                Ok(disk) => Some((disk as f64 * share) as u64),
                Err(e) => {
                    tracing::warn!(
                        "the size of the disk of {} is not known, so no limit holds: {e}",
                        path.display()
                    );
                    None
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_of_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("v.db");
        let of = |share| bytes(Size::Share(share), &store).unwrap();
        let df = std::process::Command::new("df")
            .args(["-B1", "--output=size"])
            .arg(dir.path())
            .output()
            .unwrap();
        let text = String::from_utf8(df.stdout).unwrap();
        let size: u64 = text.lines().nth(1).unwrap().trim().parse().unwrap();
        assert!(of(0.1).abs_diff(size / 10) < 4096, "{} of {size}", of(0.1));
        assert_eq!(bytes(Size::Bytes(7), &store), Some(7));
    }
}
