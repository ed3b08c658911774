//! vwatchd plugin: inventory of the host
