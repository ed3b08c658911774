//! Where things lie when nobody says otherwise. Pure: the caller brings its uid and its environment.

use std::path::PathBuf;

/// Built-in default store of a daemon that runs as root. Packages configure `/var/lib/vwatchd/vwatchd.db`.
pub const ROOT_STORE: &str = "/vwatchd.db";
/// Default plugins directory.
pub const PLUGINS_DIR: &str = "/usr/lib/vwatchd/plugins";
/// Default configuration file.
pub const CONFIG_FILE: &str = "/etc/vwatchd.conf";
/// Default control socket of a daemon that runs as root.
pub const ROOT_CONTROL_SOCKET: &str = "/run/vwatchd/control.sock";
/// `query.sock` lies beside the control socket.
pub const QUERY_SOCKET_NAME: &str = "query.sock";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    pub store: PathBuf,
    pub control_socket: PathBuf,
}

/// Defaults for a user: the system's places for root, else the XDG state and runtime directories.
pub fn defaults(uid: u32, env: impl Fn(&str) -> Option<String>) -> Paths {
    if uid == 0 {
        return Paths {
            store: ROOT_STORE.into(),
            control_socket: ROOT_CONTROL_SOCKET.into(),
        };
    }
    Paths {
        store: state_dir(uid, &env).join("vwatchd.db"),
        control_socket: runtime_dir(uid, &env).join("control.sock"),
    }
}

/// `$XDG_STATE_HOME/vwatchd`, by default `~/.local/state/vwatchd`.
pub fn state_dir(uid: u32, env: impl Fn(&str) -> Option<String>) -> PathBuf {
    let set = |name: &str| env(name).filter(|v| v.starts_with('/'));
    let base = match (set("XDG_STATE_HOME"), set("HOME")) {
        (Some(state), _) => PathBuf::from(state),
        (None, Some(home)) => PathBuf::from(home).join(".local/state"),
        (None, None) => PathBuf::from(format!("/var/tmp/vwatchd-{uid}")),
    };
    base.join("vwatchd")
}

/// `$XDG_RUNTIME_DIR/vwatchd`, by default `/tmp/vwatchd-UID`, which must belong to the user and be closed to others.
pub fn runtime_dir(uid: u32, env: impl Fn(&str) -> Option<String>) -> PathBuf {
    match env("XDG_RUNTIME_DIR").filter(|v| v.starts_with('/')) {
        Some(dir) => PathBuf::from(dir).join("vwatchd"),
        None => PathBuf::from(format!("/tmp/vwatchd-{uid}")),
    }
}

/// Where a client looks for a daemon, in this order: the user's own, then the system's.
pub fn control_socket_candidates(uid: u32, env: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
    let own = defaults(uid, env).control_socket;
    let system = PathBuf::from(ROOT_CONTROL_SOCKET);
    if own == system { vec![system] } else { vec![own, system] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_their_own_places() {
        let env = |name: &str| match name {
            "HOME" => Some("/home/ada".to_owned()),
            "XDG_RUNTIME_DIR" => Some("/run/user/1000".to_owned()),
            _ => None,
        };
        let paths = defaults(1000, env);
        assert_eq!(paths.store, PathBuf::from("/home/ada/.local/state/vwatchd/vwatchd.db"));
        assert_eq!(
            paths.control_socket,
            PathBuf::from("/run/user/1000/vwatchd/control.sock")
        );
        assert_eq!(defaults(0, env).store, PathBuf::from("/vwatchd.db"));
        assert_eq!(control_socket_candidates(1000, env).len(), 2);
        assert_eq!(control_socket_candidates(0, env).len(), 1);
    }
}
