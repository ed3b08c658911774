//! SQL over a vwatchd store: tables with history, FOR SYSTEM_TIME AS OF, gaps and expiry
