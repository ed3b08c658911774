//! A host for plugin tests: a fixture `/proc` and `/sys`, golden rows, and a record of every service the plugin asked for.
//!
//! A probe under test runs behind the same ABI objects as in vwatchd: options are decoded from what the host would send, rows
//! cross as Arrow arrays, panics become faults.
//!
//! ```
//! use vwatch_sdk::prelude::*;
//! use vwatch_testkit::FixtureHost;
//!
//! /// Files that are open.
//! #[derive(Row)]
//! #[row(table = "open_file", state)]
//! struct OpenFile {
//!     /// Handles in use.
//!     used: i64,
//! }
//!
//! struct OpenFileProbe(Context);
//!
//! impl Probe for OpenFileProbe {
//!     type Options = NoOptions;
//!     type Tables = OpenFile;
//!     const NAME: &'static str = "open_file";
//!     const DOC: &'static str = "Files that are open.";
//!     const SCHEDULE: Schedule = Schedule::every_secs(1);
//!     fn open(context: &Context, _: NoOptions) -> Result<Self> {
//!         Ok(OpenFileProbe(context.clone()))
//!     }
//!     fn run(&mut self, _: &Tick, out: &mut Out) -> Result<()> {
//!         let text = self.0.read_proc("sys/fs/file-nr")?;
//!         let used = text.split_whitespace().next().and_then(|n| n.parse().ok());
//!         out.full(vec![OpenFile { used: used.ok_or_else(|| ProbeError::failed("file-nr has no numbers"))? }]);
//!         Ok(())
//!     }
//! }
//!
//! let host = FixtureHost::new().with_file("proc/sys/fs/file-nr", "1312\t0\t9223372036854775807\n");
//! let sampled = host.run_once::<OpenFileProbe>("")?;
//! assert_eq!(sampled.text("open_file"), "used\n1312\n");
//! # Ok::<(), ProbeError>(())
//! ```
//!
//! Everything here panics when a test uses it wrongly: it is no part of any plugin.

mod fixture;
mod instance;
mod plugin;
mod record;
mod sampled;
mod settings;
mod text;

pub use fixture::FixtureHost;
pub use instance::TestInstance;
pub use plugin::{Answered, TestPlugin, ipc_stream};
pub use record::{Logged, Recorded, StreamRecord};
pub use sampled::{Sampled, SampledTable};
pub use text::{assert_golden, table_text};
