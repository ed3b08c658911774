//! Where a probe runs, and what it may ask of the host. The services themselves are in `host.rs`.

use crate::emitter::Emitter;
use crate::error::{ProbeError, Result};
use crate::host::{Level, Link};
use crate::out::{Out, Writable};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use vwatch_abi::abi_stable::std_types::RStr;
use vwatch_abi::describe::Environment;

pub(crate) type Shared = Arc<dyn Any + Send + Sync>;

/// Where a probe, subscriber or command runs. Cheap to clone and to keep; may be used from any thread.
#[derive(Clone)]
pub struct Context {
    link: Arc<Link>,
    shared: Option<Shared>,
    instance: u64,
    writable: Arc<Writable>,
    config: Arc<Value>,
}

impl Context {
    /// The context of `instance`, 0 for the plugin itself, with the configuration as it is now.
    pub(crate) fn new(link: Arc<Link>, shared: Option<Shared>, instance: u64, writable: Arc<Writable>) -> Self {
        let config = link.config.read().unwrap_or_else(PoisonError::into_inner).clone();
        Context {
            link,
            shared,
            instance,
            writable,
            config,
        }
    }

    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    pub(crate) fn instance(&self) -> u64 {
        self.instance
    }

    pub fn environment(&self) -> &Environment {
        &self.link.environment
    }

    /// Where the kernel's `/proc` is mounted: never read `/proc` itself.
    pub fn proc_dir(&self) -> &Path {
        Path::new(&self.link.environment.proc_dir)
    }

    /// Where the kernel's `/sys` is mounted.
    pub fn sys_dir(&self) -> &Path {
        Path::new(&self.link.environment.sys_dir)
    }

    /// Those trees belong to the kernel that runs. Without it, answer [`ProbeError::unsupported`] from a probe that asks
    /// the kernel otherwise than by reading them.
    pub fn live(&self) -> bool {
        self.link.environment.live
    }

    /// Directory for the plugin's own files; it may not exist yet.
    pub fn state_dir(&self) -> &Path {
        Path::new(&self.link.environment.state_dir)
    }

    /// The plugin's section of the configuration, as it was when this context was made: an object.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// The same as a type of the plugin's own.
    pub fn config_as<T: DeserializeOwned>(&self) -> Result<T> {
        T::deserialize(&*self.config).map_err(|e| ProbeError::bad_input(format!("the plugin's configuration: {e}")))
    }

    /// What `setup` of [`crate::plugin!`] made: one value for the whole plugin. An error when it made another type.
    ///
    /// The one place with a downcast: it keeps the type out of every probe's signature.
    pub fn shared<T: Send + Sync + 'static>(&self) -> Result<&T> {
        self.shared
            .as_deref()
            .and_then(|shared| shared.downcast_ref())
            .ok_or_else(|| {
                ProbeError::failed(format!(
                    "plugin! has no setup that makes a {}",
                    std::any::type_name::<T>()
                ))
            })
    }

    /// Writes to the host's log.
    pub fn log(&self, level: Level, message: &str) {
        self.link.host.log(level as u8, RStr::from_str(message));
    }

    /// A file under [`Context::proc_dir`] as text; bytes that are not UTF-8 become U+FFFD. A file that does not exist is
    /// `unsupported`, one that may not be read is `denied`; both name it.
    pub fn read_proc(&self, file: &str) -> Result<String> {
        self.read_proc_bytes(file).map(text)
    }

    /// The same as bytes.
    pub fn read_proc_bytes(&self, file: &str) -> Result<Vec<u8>> {
        read(&self.proc_dir().join(relative(file)))
    }

    /// A file under [`Context::sys_dir`] as text, as [`Context::read_proc`].
    pub fn read_sys(&self, file: &str) -> Result<String> {
        read(&self.sys_dir().join(relative(file))).map(text)
    }

    /// An empty set of rows and changes, to be handed over with [`Emitter::send`].
    pub fn out(&self) -> Out {
        Out::new(self.writable.clone())
    }

    /// Hands rows over outside of a run: from a subscriber, a command, a timer, a thread.
    pub fn emitter(&self) -> Emitter {
        Emitter::new(self.clone())
    }
}

/// `join` with a path that begins with `/` would leave the directory.
fn relative(file: &str) -> &str {
    file.trim_start_matches('/')
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

fn read(path: &PathBuf) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ProbeError::unsupported(format!("{} does not exist", path.display())),
        _ => ProbeError::from(error).about(path.display()),
    })
}
