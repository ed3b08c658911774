//! vwatchd plugin: processes
