//! The LMDB store of vwatchd: head log, blocks, readers
