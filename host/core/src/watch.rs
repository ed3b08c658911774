//! The plugins directory: its first scan, then its changes as the loader's watcher reports them. One thread, which may wait
//! for trial loads.

use crate::error::CoreError;
use crate::recorder::Recorder;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use vwatch_loader::{DirChange, Watcher, scan_dir};

/// How often the thread looks whether it is to end.
const LOOK: Duration = Duration::from_millis(500);

pub struct Watching {
    stop: Arc<AtomicBool>,
    scanned: Arc<AtomicBool>,
}

impl Watching {
    /// Tells whether every file that was there at the start has been loaded or refused.
    pub fn scanned(&self) -> impl Fn() -> bool + use<> {
        let scanned = self.scanned.clone();
        move || scanned.load(Ordering::Acquire)
    }

    /// The thread ends by itself soon; a trial load under way is not waited for.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

pub fn start(recorder: Arc<Recorder>) -> Result<Watching, CoreError> {
    let watching = Watching {
        stop: Arc::default(),
        scanned: Arc::default(),
    };
    let (stop, scanned) = (watching.stop.clone(), watching.scanned.clone());
    crate::process::spawn("plugins", move || watch(&recorder, &stop, &scanned))
        .map_err(|source| CoreError::system("start the thread that watches the plugins directory", source))?;
    Ok(watching)
}

fn watch(recorder: &Recorder, stop: &AtomicBool, scanned: &AtomicBool) {
    let dir = recorder.config().plugins.clone();
    let mut watcher: Option<Watcher> = None;
    let mut complained = false;
    while !stop.load(Ordering::Relaxed) {
        match &mut watcher {
            Some(watcher) => watcher
                .next(LOOK)
                .into_iter()
                .for_each(|change| take_in(recorder, change)),
            // Watched before it is scanned: what comes in between is seen twice rather than never.
            None => match Watcher::new(&dir) {
                Ok(new) => {
                    scan(recorder, &dir);
                    watcher = Some(new);
                }
                Err(e) => {
                    if !std::mem::replace(&mut complained, true) {
                        tracing::warn!("{e}; nothing is recorded until it is there with plugins in it");
                    }
                    scanned.store(true, Ordering::Release);
                    std::thread::sleep(LOOK);
                }
            },
        }
        scanned.store(true, Ordering::Release);
    }
}

fn scan(recorder: &Recorder, dir: &Path) {
    match scan_dir(dir) {
        Ok(files) if files.is_empty() => tracing::warn!("there is no plugin in {}: nothing is recorded", dir.display()),
        Ok(files) => files.iter().for_each(|file| recorder.file_changed(file)),
        Err(e) => tracing::warn!("{e}"),
    }
}

fn take_in(recorder: &Recorder, change: DirChange) {
    match change {
        DirChange::Changed(file) => recorder.file_changed(&file),
        DirChange::Removed(file) => recorder.file_removed(&file),
        DirChange::DirGone(dir) => tracing::warn!("the plugins directory {} is gone", dir.display()),
        DirChange::DirBack(dir) => tracing::info!("the plugins directory {} is there again", dir.display()),
    }
}
