//! Scheduler of probe instances, sample pipeline, self-metrics and control service of vwatchd
