//! Derive macros of the vwatchd plugin SDK
