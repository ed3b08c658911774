//! Listening sockets: their directory, their owner, and what a daemon before left behind.
//!
//! 0660 root:vwatch in a 0750 directory where there is such a group and the daemon runs as root, else 0600 in a 0700 one. A
//! socket on which nobody listens is taken over; one with a listener is refused, naming its process.

use crate::error::CoreError;
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::unistd::{Gid, Group, chown, geteuid};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Group whose members may talk to the daemon.
const GROUP: &str = "vwatch";

fn error(path: &Path, what: impl Into<String>) -> CoreError {
    CoreError::Socket {
        path: path.to_owned(),
        what: what.into(),
    }
}

/// The group that may talk to a daemon that runs as root.
fn group() -> Option<Gid> {
    if !geteuid().is_root() {
        return None;
    }
    Group::from_name(GROUP).ok().flatten().map(|group| group.gid)
}

/// A socket that is removed with its listener.
pub struct Bound {
    pub listener: UnixListener,
    pub path: PathBuf,
    ino: u64,
}

impl Bound {
    /// Removes the socket's file, unless it is another one by now.
    pub fn remove(path: &Path, ino: u64) {
        if std::fs::symlink_metadata(path).is_ok_and(|meta| meta.ino() == ino)
            && let Err(e) = std::fs::remove_file(path)
        {
            tracing::warn!("{}: {e}", path.display());
        }
    }

    pub fn ino(&self) -> u64 {
        self.ino
    }
}

/// Makes the socket's directory if there is none.
pub fn prepare_dir(socket: &Path) -> Result<(), CoreError> {
    let Some(dir) = socket.parent() else {
        return Err(error(socket, "is not in a directory"));
    };
    let group = group();
    match std::fs::metadata(dir) {
        Ok(meta) if !meta.is_dir() => return Err(error(dir, "is no directory")),
        Ok(meta) => return check_dir(dir, &meta),
        Err(e) if e.kind() == ErrorKind::NotFound => {}
        Err(e) => return Err(error(dir, e.to_string())),
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|e| error(dir, format!("cannot make this directory: {e}")))?;
    if let Some(gid) = group {
        chown(dir, None, Some(gid)).map_err(|e| error(dir, format!("cannot give it to group {GROUP}: {e}")))?;
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o750)).map_err(|e| error(dir, e.to_string()))?;
    }
    Ok(())
}

/// In a directory that others may write, they could put a socket of their own in the daemon's place.
fn check_dir(dir: &Path, meta: &std::fs::Metadata) -> Result<(), CoreError> {
    let own = meta.uid() == geteuid().as_raw() || meta.uid() == 0;
    let closed = meta.mode() & 0o022 == 0 || meta.mode() & 0o1000 != 0;
    if own && closed {
        return Ok(());
    }
    let why = match own {
        false => format!("belongs to user {}, not to the daemon's", meta.uid()),
        true => "may be written by others".to_owned(),
    };
    Err(error(dir, format!("{why}; the socket would not be safe there")))
}

/// Binds the socket, taking over what a dead daemon left.
pub fn bind(path: &Path) -> Result<Bound, CoreError> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(error(path, "there is a file that is no socket; it is left alone"));
        }
        Ok(_) => take_over(path)?,
        Err(_) => {}
    }
    let listener = UnixListener::bind(path).map_err(|e| error(path, format!("cannot listen: {e}")))?;
    let mode = match group() {
        Some(gid) => {
            chown(path, None, Some(gid)).map_err(|e| error(path, format!("cannot give it to group {GROUP}: {e}")))?;
            0o660
        }
        None => 0o600,
    };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(|e| error(path, e.to_string()))?;
    listener.set_nonblocking(true).map_err(|e| error(path, e.to_string()))?;
    let ino = std::fs::symlink_metadata(path)
        .map_err(|e| error(path, e.to_string()))?
        .ino();
    Ok(Bound {
        listener,
        path: path.to_owned(),
        ino,
    })
}

fn take_over(path: &Path) -> Result<(), CoreError> {
    match UnixStream::connect(path) {
        Ok(stream) => {
            // For a connecting socket these are the credentials of who listens (unix(7)).
            let pid = getsockopt(&stream, PeerCredentials).map(|peer| peer.pid()).ok();
            let who = pid.map_or("another process".to_owned(), |pid| format!("process {pid}"));
            Err(error(
                path,
                format!("{who} listens there; stop it first, or choose another --socket"),
            ))
        }
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => {
            tracing::info!("{}: left by a daemon that is no more; taken over", path.display());
            std::fs::remove_file(path).map_err(|e| error(path, format!("cannot take it over: {e}")))
        }
        Err(e) => Err(error(path, format!("cannot tell whether somebody listens there: {e}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_daemons_socket_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/control.sock");
        prepare_dir(&path).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let bound = bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().mode() & 0o777;
        assert_eq!(mode, if group().is_some() { 0o660 } else { 0o600 });
        let dir_mode = std::fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777;
        assert_eq!(dir_mode, if group().is_some() { 0o750 } else { 0o700 });
        Bound::remove(&bound.path, bound.ino());
        assert!(!path.exists());
    }

    #[test]
    fn a_live_daemons_socket_is_refused_naming_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let _live = UnixListener::bind(&path).unwrap();
        let message = bind(&path).err().unwrap().to_string();
        assert!(
            message.contains(&format!("process {} listens there", std::process::id())),
            "{message}"
        );
    }

    #[test]
    fn other_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        std::fs::write(&path, "precious").unwrap();
        assert!(bind(&path).err().unwrap().to_string().contains("no socket"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_directory_that_others_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let open = dir.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
        assert!(prepare_dir(&open.join("control.sock")).is_err());
        // A sticky one (/tmp) is safe: others cannot remove the socket.
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(prepare_dir(&open.join("control.sock")).is_ok());
    }
}
