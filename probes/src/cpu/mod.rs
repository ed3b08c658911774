//! Probes of the `cpu` plugin: what the processors do.

pub mod cpu_time;

pub use cpu_time::CpuTimeProbe;
