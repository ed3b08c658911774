//! ABI version 1: the layout-checked surface. See the crate documentation for what freezing means.
//!
//! Threads: the host calls `Plugin` methods from any thread, several at once; `Probe` methods of one instance never at the
//! same time. `Host` methods may be called from any thread, also from within a call of the host, and never block on
//! the plugin (emitted rows are queued).

// The code that `#[sabi_trait]` and `#[derive(StableAbi)]` generate is not ours to annotate.
#![allow(clippy::undocumented_unsafe_blocks, non_local_definitions, missing_docs)]

use crate::arrow_c::ArrowArray;
use abi_stable::{
    StableAbi,
    library::RootModule,
    package_version_strings, sabi_trait,
    sabi_types::VersionStrings,
    std_types::{RArc, RBox, ROption, RResult, RSlice, RStr, RString, RVec},
};

/// The ABI version that this module is.
pub const VERSION: u32 = 1;

/// Prefix of the mark symbols; the decimal ABI version follows.
pub const MARK_PREFIX: &str = "vwatch_plugin_abi_v";

/// The symbol whose presence says that a library is a plugin of this version.
pub const MARK_SYMBOL: &str = "vwatch_plugin_abi_v1";

/// What a plugin exports under [`MARK_SYMBOL`]. The host reads the symbol's name only; the contents are for people.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Mark {
    /// `b"vwatch plugin\0\0\0"`
    pub magic: [u8; 16],
    pub version: u32,
}

impl Mark {
    pub const THIS: Mark = Mark {
        magic: *b"vwatch plugin\0\0\0",
        version: VERSION,
    };
}

/// Root module of a plugin.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginModuleRef, prefix_fields = PluginModulePrefix)))]
#[sabi(missing_field(panic))]
pub struct PluginModule {
    /// Makes the plugin. Called once per loaded copy.
    #[sabi(last_prefix_field)]
    pub create: extern "C" fn(HostBox) -> RResult<PluginBox, Fault>,
}

impl RootModule for PluginModuleRef {
    abi_stable::declare_root_module_statics! {PluginModuleRef}
    const BASE_NAME: &'static str = "vwatch_plugin";
    const NAME: &'static str = "vwatch_plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

/// A plugin, as the host holds it.
pub type PluginBox = Plugin_TO<'static, RBox<()>>;
/// A probe instance, as the host holds it.
pub type ProbeBox = Probe_TO<'static, RBox<()>>;
/// The host, as a plugin holds it.
pub type HostBox = Host_TO<'static, RArc<()>>;

/// What a plugin offers to the host.
#[sabi_trait]
pub trait Plugin: Send + Sync {
    /// [`crate::describe::Manifest`] as JSON. Constant over the plugin's life.
    fn manifest(&self) -> RVec<u8>;

    /// Opens an instance of `probe` under the id `instance`, with `options` as a JSON object.
    fn open(&self, probe: RStr<'_>, instance: u64, options: RSlice<'_, u8>) -> RResult<ProbeBox, Fault>;

    /// Rows of a table that the manifest's subscriber number `subscriber` names. Must return soon.
    fn receive(&self, subscriber: u32, rows: Received<'_>) -> RResult<(), Fault>;

    /// A command of the manifest, spoken by a person or a program.
    fn command(&self, request: CommandRequest<'_>) -> RResult<CommandAnswer, Fault>;

    /// A timer set with [`Host::timer`] has run out.
    fn timer(&self, token: u64) -> RResult<(), Fault>;

    /// The answer to [`Host::query`]: an Arrow IPC stream, not compressed.
    fn answered(&self, token: u64, answer: RResult<RVec<u8>, Fault>) -> RResult<(), Fault>;

    /// The configuration was read again: the plugin's section as JSON.
    fn reconfigured(&self, config: RSlice<'_, u8>) -> RResult<(), Fault>;

    /// The last call: instances are stopped already; durable work must be committed before it returns.
    fn stop(&self) -> RResult<(), Fault>;

    /// Operations added after the freeze. An unknown one answers [`fault::NO_SUCH_OPERATION`].
    #[sabi(last_prefix_field)]
    fn call(&self, op: RStr<'_>, input: RSlice<'_, u8>) -> RResult<RVec<u8>, Fault>;
}

/// One running probe.
#[sabi_trait]
pub trait Probe: Send {
    /// One sample of a polled probe. What it returns is committed in one transaction.
    fn run(&mut self, tick: Tick) -> RResult<Commit, Fault>;

    /// Begins a streaming probe; rows go through [`Host::emit`].
    fn start(&mut self) -> RResult<(), Fault>;

    /// Ends the instance. Returns what was still to be handed over.
    fn stop(&mut self) -> RResult<Commit, Fault>;

    /// Operations added after the freeze. An unknown one answers [`fault::NO_SUCH_OPERATION`].
    #[sabi(last_prefix_field)]
    fn call(&mut self, op: RStr<'_>, input: RSlice<'_, u8>) -> RResult<RVec<u8>, Fault>;
}

/// What the host offers to a plugin.
#[sabi_trait]
pub trait Host: Send + Sync {
    /// Writes to the host's log. Levels: 1 error, 2 warning, 3 information, 4 debug, 5 trace.
    fn log(&self, level: u8, message: RStr<'_>);

    /// [`crate::describe::Environment`] as JSON.
    fn environment(&self) -> RVec<u8>;

    /// The plugin's section of the configuration, as a JSON object.
    fn config(&self) -> RVec<u8>;

    /// [`crate::describe::Table`] of any table that the host knows, as JSON.
    fn schema(&self, table: RStr<'_>) -> RResult<RVec<u8>, Fault>;

    /// Queues rows, losses, state and outbox entries; one transaction takes all of a `Commit`, and at once when there is an
    /// outbox entry in it. `instance` is 0 for the plugin itself.
    fn emit(&self, instance: u64, commit: Commit) -> RResult<(), Fault>;

    /// A value of the plugin's durable state, as last committed or queued.
    fn state(&self, key: RStr<'_>) -> RResult<ROption<RVec<u8>>, Fault>;

    /// Keys of the plugin's durable state that begin with `prefix`, in byte order.
    fn state_keys(&self, prefix: RStr<'_>) -> RResult<RVec<RString>, Fault>;

    /// Entries of the plugin's outbox that nobody has acknowledged, oldest first: at most `limit`.
    fn outbox(&self, limit: u32) -> RResult<RVec<OutboxEntry>, Fault>;

    /// Calls [`Plugin::timer`] with `token` after `after_ns`, once; a second call with the same token moves it; `u64::MAX` cancels it.
    fn timer(&self, token: u64, after_ns: u64) -> RResult<(), Fault>;

    /// Starts an instance of any plugin's probe from [`crate::describe::InstanceSpec`] as JSON; answers its name.
    fn instance_start(&self, spec: RSlice<'_, u8>) -> RResult<RString, Fault>;

    /// Stops an instance that this plugin started.
    fn instance_stop(&self, name: RStr<'_>) -> RResult<(), Fault>;

    /// Sends bytes to the client that waits on `stream` (see [`CommandRequest::stream`]). [`fault::GONE`] when it has left,
    /// [`fault::BUSY`] when it reads too slowly: the bytes were not taken.
    fn stream_send(&self, stream: u64, bytes: RSlice<'_, u8>) -> RResult<(), Fault>;

    /// Ends a stream.
    fn stream_close(&self, stream: u64) -> RResult<(), Fault>;

    /// Asks the store: [`crate::describe::Query`] as JSON. The answer comes to [`Plugin::answered`] with `token`.
    fn query(&self, token: u64, query: RSlice<'_, u8>) -> RResult<(), Fault>;

    /// Operations added after the freeze. An unknown one answers [`fault::NO_SUCH_OPERATION`].
    #[sabi(last_prefix_field)]
    fn call(&self, op: RStr<'_>, input: RSlice<'_, u8>) -> RResult<RVec<u8>, Fault>;
}

/// The occasion of one run.
#[repr(C)]
#[derive(StableAbi, Clone, Copy, Debug)]
pub struct Tick {
    /// Wall clock when the run began, ns since the epoch: the `time` of the rows.
    pub time_ns: i64,
    /// `CLOCK_BOOTTIME` at the same moment.
    pub boottime_ns: i64,
    /// Wall clock time at which the run was due.
    pub due_ns: i64,
    /// The instance's interval.
    pub interval_ns: u64,
    /// Runs of this instance before this one.
    pub sequence: u64,
    /// The host needs a full picture: a delta will not do.
    pub full: bool,
}

/// What one transaction takes.
#[repr(C)]
#[derive(StableAbi)]
pub struct Commit {
    pub batches: RVec<Batch>,
    pub losses: RVec<Loss>,
    pub state: RVec<StateChange>,
    pub outbox: RVec<OutboxEntry>,
    /// Outbox entries that were delivered, or given up, and may be forgotten.
    pub outbox_done: RVec<RString>,
}

/// Values of [`Batch::kind`].
pub mod batch_kind {
    /// The full picture of a state table: rows not in it are gone.
    pub const FULL: u8 = 0;
    /// Changed and new rows of a state table, and the keys of gone ones.
    pub const DELTA: u8 = 1;
    /// Rows of an event table.
    pub const EVENTS: u8 = 2;
}

/// Rows of one table.
#[repr(C)]
#[derive(StableAbi)]
pub struct Batch {
    /// Index of the table in the manifest.
    pub table: u32,
    /// One of [`batch_kind`].
    pub kind: u8,
    /// Time of the sample, ns since the epoch; 0 for the tick's own.
    pub time_ns: i64,
    /// A struct array: one child per column, in the manifest's order.
    pub rows: ArrowArray,
    /// With a delta, a struct array of the key columns of rows that are gone; else released.
    pub gone: ArrowArray,
}

/// Rows that were lost before they could be handed over: becomes a row of `gap`.
#[repr(C)]
#[derive(StableAbi)]
pub struct Loss {
    /// Index of the table in the manifest.
    pub table: u32,
    /// Rows lost, as far as known; 0 when unknown.
    pub count: u64,
    /// Wall clock, ns since the epoch, of the first and last moment concerned.
    pub from_ns: i64,
    pub until_ns: i64,
    pub cause: RString,
}

/// A change of the plugin's durable state.
#[repr(C)]
#[derive(StableAbi)]
pub struct StateChange {
    /// At most 400 bytes.
    pub key: RString,
    /// None deletes.
    pub value: ROption<RVec<u8>>,
}

/// Something to be delivered at least once.
#[repr(C)]
#[derive(StableAbi)]
pub struct OutboxEntry {
    /// Stable over retries, unique in the plugin; at most 400 bytes.
    pub id: RString,
    pub body: RVec<u8>,
}

/// Rows as a subscriber sees them.
#[repr(C)]
#[derive(StableAbi)]
pub struct Received<'a> {
    /// Name of the table.
    pub table: RStr<'a>,
    /// Name of the instance.
    pub instance: RStr<'a>,
    /// [`crate::describe::Table`] as JSON.
    pub schema: RSlice<'a, u8>,
    pub time_ns: i64,
    /// One of [`batch_kind`].
    pub kind: u8,
    pub rows: ArrowArray,
    pub gone: ArrowArray,
}

/// A command and who speaks it.
#[repr(C)]
#[derive(StableAbi)]
pub struct CommandRequest<'a> {
    /// The manifest's name of the command.
    pub command: RStr<'a>,
    /// What follows the name: a JSON array of words as they were given.
    pub words: RSlice<'a, u8>,
    /// Peer credentials of the speaker.
    pub uid: u32,
    pub gid: u32,
    pub pid: i32,
    /// Where live output may be sent with [`Host::stream_send`]; 0 when the client does not wait.
    pub stream: u64,
}

/// Rows in answer to a command.
#[repr(C)]
#[derive(StableAbi)]
pub struct CommandAnswer {
    /// [`crate::describe::Column`]s as a JSON array.
    pub columns: RVec<u8>,
    /// A struct array with one child per column; released when there is nothing to show.
    pub rows: ArrowArray,
    /// Things to tell the person: warnings, hints.
    pub notes: RVec<RString>,
    /// The plugin keeps the stream and will close it.
    pub streaming: bool,
}

/// Values of [`Fault::code`].
pub mod fault {
    /// It did not work this time.
    pub const FAILED: u32 = 1;
    /// This kernel or machine cannot do it.
    pub const UNSUPPORTED: u32 = 2;
    /// The daemon lacks a privilege.
    pub const DENIED: u32 = 3;
    /// There is nothing to report; not a failure.
    pub const NO_DATA: u32 = 4;
    /// The plugin panicked.
    pub const PANICKED: u32 = 5;
    /// An option or a command is wrong; `position` may say where.
    pub const BAD_INPUT: u32 = 6;
    /// The named thing does not exist.
    pub const NOT_FOUND: u32 = 7;
    /// The other side has left.
    pub const GONE: u32 = 8;
    /// Not now.
    pub const BUSY: u32 = 9;
    /// `call` does not know the operation.
    pub const NO_SUCH_OPERATION: u32 = 10;
}

/// Why something was not done.
#[repr(C)]
#[derive(StableAbi, Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// One of [`fault`]; an unknown one is to be taken as [`fault::FAILED`].
    pub code: u32,
    pub message: RString,
    /// Byte offset in the input, or -1.
    pub position: i64,
}
