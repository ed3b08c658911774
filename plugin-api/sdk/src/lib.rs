//! What a vwatchd plugin author uses
