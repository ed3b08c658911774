//! Clients of vwatchd's sockets, and the output formats
