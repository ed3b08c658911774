//! vwatchd plugin: figures of the operating system
