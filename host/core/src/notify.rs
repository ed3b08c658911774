//! Word to systemd: sd_notify(3), one datagram to the socket in `NOTIFY_SOCKET`. Without systemd nothing is sent.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

#[derive(Debug, Default)]
pub struct Notify {
    socket: Option<UnixDatagram>,
}

impl Notify {
    /// Connects to the socket that the service manager named.
    pub fn from_env() -> Notify {
        let Some(name) = std::env::var_os("NOTIFY_SOCKET") else {
            return Notify::default();
        };
        let name = name.to_string_lossy().into_owned();
        match Notify::connect(&name) {
            Ok(socket) => Notify { socket: Some(socket) },
            Err(e) => {
                tracing::warn!("NOTIFY_SOCKET {name}: {e}");
                Notify::default()
            }
        }
    }

    /// A name that begins with `@` is in the abstract namespace (unix(7)).
    fn connect(name: &str) -> std::io::Result<UnixDatagram> {
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&address)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    fn send(&self, message: &str) {
        if let Some(socket) = &self.socket
            && let Err(e) = socket.send(message.as_bytes())
        {
            tracing::debug!("sd_notify: {e}");
        }
    }

    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// `MONOTONIC_USEC` is what `Type=notify-reload` asks for.
    pub fn reloading(&self) {
        let monotonic_us = crate::clock::Reading::take().monotonic_ns / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={monotonic_us}"));
    }

    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    pub fn watchdog(&self) {
        self.send("WATCHDOG=1");
    }

    /// How often the service manager wants to hear; it is told twice as often.
    pub fn watchdog_every() -> Option<Duration> {
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let us = number("WATCHDOG_USEC").filter(|us| *us > 0)?;
        let mine = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        mine.then(|| Duration::from_micros(us / 2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_arrive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let notify = Notify {
            socket: Some(Notify::connect(path.to_str().unwrap()).unwrap()),
        };
        notify.ready("recording");
        notify.watchdog();
        let mut buffer = [0; 256];
        let n = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..n], b"READY=1\nSTATUS=recording");
        let n = manager.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..n], b"WATCHDOG=1");
    }

    #[test]
    fn nobody_to_tell() {
        Notify::default().ready("recording");
        assert!(Notify::connect("/nonexistent/notify").is_err());
    }
}
