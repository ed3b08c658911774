//! Where parts go: a directory, or an object store. The only module that speaks to a network, and only when a URL was given.
//!
//! A part is seen when it is whole: a file is written under another name and moved into place, an upload in several pieces
//! is completed at its end (`object_store`). Keys, region and endpoint of S3 come from the usual `AWS_…` variables.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, RetryConfig};
use url::Url;

use super::upload::Upload;
use crate::failure::Failed;

/// What a store that does not answer is given.
const PATIENCE: Duration = Duration::from_secs(60);
const RETRIES: usize = 4;

pub struct Target {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    /// The directory, when it is one.
    local: Option<PathBuf>,
    shown: String,
}

impl Target {
    /// `place` is a directory, which is made if need be, `file://…` or `s3://BUCKET[/PREFIX]`.
    pub fn open(place: &str) -> Result<Target, Failed> {
        match Url::parse(place) {
            Ok(url) if url.scheme() == "s3" => bucket(&url),
            Ok(url) if url.scheme() == "file" => match url.to_file_path() {
                Ok(path) => directory(path),
                Err(()) => Err(usage(format!("{place} names no directory of this host"))),
            },
            Ok(url) if place.contains("://") => Err(usage(format!("{}:// is no place to export to", url.scheme()))),
            _ => directory(PathBuf::from(place)),
        }
    }

    /// The place of a part, below the target.
    pub fn path(&self, parts: &[&str]) -> Path {
        let below = parts.iter().map(|part| object_store::path::PathPart::from(*part));
        self.prefix.parts().chain(below).collect()
    }

    /// A part to be written. What an interrupted export has left in its place is cleared.
    pub fn part(&self, path: &Path) -> Upload {
        if let Some(local) = &self.local {
            clear_unfinished(&local.join(path.as_ref()));
        }
        Upload::new(self.store.clone(), path.clone())
    }

    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// An error of the store about a part.
    pub fn failed(&self, path: &Path, error: &dyn std::error::Error) -> Failed {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text = format!("{text}: {cause_text}");
            }
            source = cause.source();
        }
        Failed::because(format!("cannot write {path} in {}: {text}", self.shown))
    }
}

fn usage(message: String) -> Failed {
    Failed::Usage {
        message,
        hint: Some("name a directory, or s3://BUCKET/PREFIX".to_owned()),
    }
}

fn directory(path: PathBuf) -> Result<Target, Failed> {
    let failed = |e: &dyn std::fmt::Display| Failed::because(format!("cannot write to {}: {e}", path.display()));
    std::fs::create_dir_all(&path).map_err(|e| failed(&e))?;
    let path = path.canonicalize().map_err(|e| failed(&e))?;
    let store = LocalFileSystem::new_with_prefix(&path).map_err(|e| failed(&e))?;
    Ok(Target {
        store: Arc::new(store),
        prefix: Path::default(),
        shown: path.display().to_string(),
        local: Some(path),
    })
}

fn bucket(url: &Url) -> Result<Target, Failed> {
    let Some(bucket) = url.host_str().filter(|b| !b.is_empty()) else {
        return Err(usage(format!("{url} names no bucket")));
    };
    let retry = RetryConfig {
        max_retries: RETRIES,
        retry_timeout: PATIENCE,
        ..RetryConfig::default()
    };
    let endpoint = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];
    // An endpoint that is written as http:// is a wish for it.
    let plain = endpoint
        .into_iter()
        .find_map(crate::context::env)
        .is_some_and(|e| e.starts_with("http://"));
    let store = AmazonS3Builder::from_env()
        .with_bucket_name(bucket)
        .with_allow_http(plain)
        .with_retry(retry)
        .build()
        .map_err(|e| Failed::because(format!("cannot export to {url}: {e}")))?;
    let prefix = Path::from_url_path(url.path()).map_err(|e| usage(format!("{url}: {e}")))?;
    Ok(Target {
        store: Arc::new(store),
        prefix,
        local: None,
        shown: url.to_string(),
    })
}

/// Files of the form `PART#N`, which are parts in the making.
fn clear_unfinished(part: &std::path::Path) {
    let (Some(dir), Some(name)) = (part.parent(), part.file_name().and_then(|n| n.to_str())) else {
        return;
    };
    let unfinished = |file: &str| {
        let number = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('#'));
        number.is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
    };
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(unfinished) {
            // One that cannot be removed does no harm: nobody reads such a name as a part.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let dir = tempfile::tempdir().unwrap();
        let target = Target::open(dir.path().join("a/b").to_str().unwrap()).unwrap();
        assert!(dir.path().join("a/b").is_dir());
        let path = target.path(&["process", "host=web 1", "day=2026-01-02", "part-0.parquet"]);
        assert_eq!(path.as_ref(), "process/host=web 1/day=2026-01-02/part-0.parquet");
        let target = Target::open("s3://bucket/some/prefix/").unwrap();
        assert_eq!(target.path(&["a", "b"]).as_ref(), "some/prefix/a/b");
        for bad in ["ftp://x/y", "s3:///x", "gs://b/x"] {
            assert!(Target::open(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_was_left_unfinished_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let part = dir.path().join("part-0.parquet");
        for name in [
            "part-0.parquet",
            "part-0.parquet#1",
            "part-0.parquet#x",
            "part-1.parquet#1",
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        clear_unfinished(&part);
        assert!(!dir.path().join("part-0.parquet#1").exists());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
    }
}
