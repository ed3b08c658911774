//! Names of users and groups, from `/etc/passwd` and `/etc/group`.
//!
//! Only these files: the name service switch may ask a directory server, and a recorder must not wait for one each second.
//! The files are read again when they have changed, which is one `stat` of each per sample.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

/// Names by id, as one file has them.
pub struct Names {
    path: PathBuf,
    /// When the file was last changed, as read.
    read: Option<(SystemTime, u64)>,
    names: HashMap<u32, String>,
}

impl Names {
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Names {
            path: path.into(),
            read: None,
            names: HashMap::new(),
        }
    }

    /// Reads the file if it has changed; answers whether it had.
    pub fn refresh(&mut self) -> bool {
        let now = fs::metadata(&self.path)
            .ok()
            .and_then(|m| Some((m.modified().ok()?, m.len())));
        if now == self.read {
            return false;
        }
        self.read = now;
        self.names =
            fs::read(&self.path).map_or_else(|_| HashMap::new(), |bytes| parse(&String::from_utf8_lossy(&bytes)));
        true
    }

    pub fn get(&self, id: u32) -> Option<&str> {
        self.names.get(&id).map(String::as_str)
    }
}

/// `name:password:id:…`; the first of two names for one id counts, as with getpwuid(3).
fn parse(text: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut parts = line.split(':');
        if let (Some(name), Some(id)) = (parts.next(), parts.nth(1).and_then(|id| id.parse().ok()))
            && !name.is_empty()
        {
            names.entry(id).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_passwd() {
        let names = parse(
            "root:x:0:0:root:/root:/bin/sh\ntoor:x:0:0::/:/bin/sh\n# c:x:7:\n\n+::::::\nada:x:1000:\nbad:x\n:x:5:\n",
        );
        assert_eq!(names.len(), 2);
        assert_eq!((names[&0].as_str(), names[&1000].as_str()), ("root", "ada"));
    }

    #[test]
    fn a_changed_file_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("passwd");
        let mut names = Names::new(&path);
        assert!(!names.refresh());
        fs::write(&path, "ada:x:1000:\n").unwrap();
        assert!(names.refresh());
        assert_eq!(names.get(1000), Some("ada"));
        assert!(!names.refresh());
        fs::write(&path, "ada:x:1000:\nbob:x:1001:\n").unwrap();
        assert!(names.refresh());
        assert_eq!(names.get(1001), Some("bob"));
        fs::remove_file(&path).unwrap();
        assert!(names.refresh());
        assert_eq!(names.get(1000), None);
    }
}
