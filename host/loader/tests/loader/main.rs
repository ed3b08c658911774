//! The loader over real files: bad ones, damaged ones, plugins that crash, and plugins that work.
//!
//! The plugins are loaded into this very process, after a trial in a child: that it lives to the end is part of each test.

#![allow(clippy::unwrap_used)]

mod bad_files;
mod behaviours;
mod damage;
mod plugin;
mod support;
mod trial;
mod watch;
