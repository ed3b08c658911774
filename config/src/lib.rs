//! Configuration of vwatchd
