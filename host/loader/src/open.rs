//! The fourth gate, and the way through all of them: the library is opened, its layouts are compared, the plugin is made
//! and says what it brings.

use crate::elf;
use crate::fault::Fault;
use crate::file::{self, Identity};
use crate::host_object::{HostObject, Tables};
use crate::manifest::Manifest;
use crate::plugin::Plugin;
use crate::refusal::{Fail, Refusal, one_line};
use crate::rows::TableLayout;
use crate::services::HostServices;
use crate::trial::{self, Checker};
use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use std::mem::ManuallyDrop;
use std::os::fd::{IntoRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use vwatch_abi::abi_stable::library::{LibraryError, RawLibrary, lib_header_from_raw_library};
use vwatch_abi::v1::{PluginBox, PluginModuleRef};

/// Loads plugin files.
#[derive(Debug, Clone, Default)]
pub struct Loader {
    /// The program run in a child for the trial load.
    pub checker: Checker,
}

/// A plugin made from a copy, in whichever process.
pub(crate) struct Opened {
    pub object: ManuallyDrop<PluginBox>,
    /// The manifest as the plugin wrote it, and as it was read.
    pub document: Vec<u8>,
    pub manifest: Manifest,
    pub tables: Tables,
}

impl Loader {
    pub fn new() -> Loader {
        Loader::default()
    }

    /// Loads a plugin through all four gates. Takes some tens of milliseconds, at worst the checker's time limit; the
    /// plugin's own setup then runs on the caller's thread.
    pub fn load(&self, file: &Path, services: Arc<dyn HostServices>) -> Result<Plugin, Refusal> {
        let copy = file::take(file).map_err(|fail| fail.of(file, None))?;
        elf::check(&copy.bytes).map_err(|fail| fail.of(file, None))?;
        drop(copy.bytes);
        let tried = trial::run(&self.checker, &copy.memfd)
            .and_then(|document| Manifest::read(&document).map_err(Fail::from))
            .map_err(|fail| fail.of(file, None))?;
        let name = tried.name.clone();
        let opened = catch_unwind(AssertUnwindSafe(|| open(copy.memfd, &name, Some(&tried), services)))
            .unwrap_or_else(|_| Err(Fail::new("loading it panicked", "see the daemon's log")))
            .map_err(|fail| fail.of(file, Some(&name)))?;
        if opened.manifest != tried {
            let hint = "a plugin's manifest has to be constant; its author has to mend it";
            return Err(Fail::new("its manifest is another one each time it is loaded", hint).of(file, Some(&name)));
        }
        tracing::debug!(plugin = name, file = %file.display(), "loaded");
        Ok(Plugin {
            manifest: opened.manifest,
            file: file.to_owned(),
            identity: copy.identity,
            tables: opened.tables,
            object: opened.object,
        })
    }

    /// Passes a file through the first two gates only, without running anything of it: what it is, if it can be a plugin.
    /// Tells a new version from a touched file before anything is drained.
    pub fn inspect(&self, file: &Path) -> Result<Identity, Refusal> {
        let copy = file::take(file).map_err(|fail| fail.of(file, None))?;
        elf::check(&copy.bytes).map_err(|fail| fail.of(file, None))?;
        Ok(copy.identity)
    }
}

/// Opens a copy and makes the plugin, under `name`. `expected` is the manifest that it gave in the trial: with it, the plugin
/// can hand over rows while it is being made.
pub(crate) fn open(
    copy: OwnedFd,
    name: &str,
    expected: Option<&Manifest>,
    services: Arc<dyn HostServices>,
) -> Result<Opened, Fail> {
    let module = library(copy)?;
    let tables = Tables::default();
    let set_tables = |manifest: &Manifest| {
        tables.get_or_init(|| manifest.tables.iter().cloned().map(TableLayout::new).collect());
    };
    expected.iter().for_each(|manifest| set_tables(manifest));
    let host = HostObject::boxed(name.to_owned(), services, tables.clone());
    let made = module.create()(host).into_result().map_err(|fault| {
        let fault = Fault::from_abi(&fault);
        let reason = format!(
            "its setup says ({}): {}",
            fault.kind.word(),
            one_line(&fault.message, 400)
        );
        Fail::new(reason, "see what it needs, then reload it")
    })?;
    // Never dropped: threads of the plugin may use it until the process ends.
    let object = ManuallyDrop::new(made);
    let document = object.manifest().to_vec();
    let manifest = Manifest::read(&document)?;
    set_tables(&manifest);
    Ok(Opened {
        object,
        document,
        manifest,
        tables,
    })
}

/// dlopen, for good. All symbols are bound now: a missing one is a refusal, not a death at its first call.
fn library(copy: OwnedFd) -> Result<PluginModuleRef, Fail> {
    let path = file::fd_path(&copy);
    // SAFETY: runs the library's constructors. They are the plugin's native code; a child has survived them.
    let opened = unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_LOCAL) };
    let library = opened.map_err(|e| cannot_open(&path, &e))?;
    std::mem::forget(library);
    // The descriptor stays open as long as the library stays mapped, for good: the C library knows its libraries by path, and
    // would take a later copy under the same descriptor number for this one.
    let _ = copy.into_raw_fd();
    let raw = RawLibrary::load_at(&path).map_err(|e| mismatch(&e))?;
    // SAFETY: the header lives in the library, which is never closed.
    let header = unsafe { lib_header_from_raw_library(&raw) };
    std::mem::forget(raw);
    // check_layout, not init_root_module: that one compares the version of the vwatch-abi package too, and the ABI's version
    // is in the mark, whatever the package is called.
    header
        .and_then(|header| header.check_layout::<PluginModuleRef>())
        .map_err(|e| mismatch(&e))
}

/// Opens other libraries beside the plugin. The C library compares their names with those of every library that is loaded, and
/// may look for their symbols in each: where this one's tables point into nowhere, that kills at the next dlopen. In a trial
/// it is to happen here, not in the daemon.
pub(crate) fn open_others() {
    // Of the C library, and not needed by anything here; where there is no such file, nothing happens.
    for name in ["libanl.so.1", "libresolv.so.2", "libutil.so.1", "no-such-library.so"] {
        // SAFETY: constructors of the C library's own parts are what every program may run.
        drop(unsafe { Library::open(Some(name), RTLD_NOW | RTLD_LOCAL) }.map(std::mem::forget));
    }
}

fn cannot_open(path: &Path, error: &libloading::Error) -> Fail {
    let text = match std::error::Error::source(error) {
        Some(source) => source.to_string(),
        None => error.to_string(),
    };
    let prefix = format!("{}: ", path.display());
    let why = one_line(&text.replace(&prefix, ""), 300);
    Fail::new(
        format!("it cannot be opened as a library: {why}"),
        "install what it needs, or build it for this system",
    )
}

fn mismatch(error: &LibraryError) -> Fail {
    let build = "build it with the vwatch-sdk of this vwatchd";
    match error {
        LibraryError::GetSymbolError { .. } => Fail::new(
            "it has the mark of a plugin, but no root module",
            "build it with vwatch-sdk and its plugin! line",
        ),
        LibraryError::InvalidAbiHeader(found) => Fail::new(
            format!(
                "it is built with abi_stable {}.{}, which this daemon does not speak",
                found.abi_major, found.abi_minor
            ),
            build,
        ),
        LibraryError::RootModule { err, .. } => Fail::new(
            format!("its root module fails: {}", one_line(&err.to_string(), 300)),
            build,
        ),
        LibraryError::AbiInstability(layouts) => Fail::new(
            format!(
                "its types differ from this daemon's: {}",
                layout_difference(&layouts.to_string())
            ),
            build,
        ),
        other => Fail::new(
            format!("it does not fit this daemon: {}", one_line(&other.to_string(), 300)),
            build,
        ),
    }
}

/// The first difference out of the pages in which abi_stable prints whole layouts: the type, what is wrong with it, and what
/// was expected and found.
fn layout_difference(pages: &str) -> String {
    let Some((before, after)) = pages.split_once("\nError:") else {
        return one_line(pages, 300);
    };
    let difference = one_line(after.split("\n\n").next().unwrap_or(after), 200);
    let expected = before
        .rfind("Layout of expected type:")
        .map_or(before, |at| &before[at..]);
    match expected.lines().find_map(|line| line.trim().strip_prefix("type:")) {
        Some(kind) => format!("{}: {difference}", one_line(kind, 100)),
        None => difference,
    }
}
