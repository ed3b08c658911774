//! The measurement code of vwatchd's own plugins
