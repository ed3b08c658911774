//! The stable ABI between vwatchd and its plugins.
//!
//! A plugin is a dynamic library with two exported symbols: the *mark* `vwatch_plugin_abi_vN` ([`v1::MARK_SYMBOL`]), which
//! names the ABI version and is read from the file before anything in it runs, and abi_stable's library header, through
//! which the root module of that version is obtained with its layout checked.
//!
//! Two kinds of things cross:
//! - the **layout-checked surface** of [`v1`]: trait objects and small records, frozen with the first release;
//! - **documents** ([`describe`]): JSON in which unknown fields are ignored, for everything that describes (tables, probes,
//!   options). They may grow by optional fields without a new ABI version.
//!
//! Rows cross as arrays of the Arrow C Data Interface ([`arrow_c`]), their schema once per table, in the manifest.
//!
//! # What freezing means, and when
//! v1 freezes with release 1.0, once the six plugins and the example run on it; until then each change is deliberate, and
//! noted in `CHANGELOG.md`. From then on no type, field, method, order or constant of [`v1`] and [`arrow_c`] changes. What a later
//! version needs beyond it goes, in this order of preference, through an optional field of a document, through an
//! operation of `call(op, bytes) -> bytes`, or through a module `v2` beside this one. Nothing is ever appended to a
//! v1 type: abi_stable lets a *new* plugin with appended fields load in an old host, but rejects an *old* plugin in a
//! new host, and old plugins are the ones that must go on working.
//!
//! **Invariant:** no function of this surface may unwind. The sdk wraps every entry point in `catch_unwind`; a panic that
//! reached `extern "C"` would end the process.

pub mod arrow_c;
pub mod describe;
pub mod v1;

pub use abi_stable;
