//! vwatchd plugin: CPU time
