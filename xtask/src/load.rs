//! A load like a busy host's: idle processes of many names and command lines, busy ones, and short-lived children.
//!
//! The load is a process of its own, in a process group of its own. It ends, and ends all that it started, when its standard
//! input does: it outlives nobody. Its processes are this program over again, told by an environment variable (which is not
//! recorded) what to be, and `sleep`.

use anyhow::{Context, Result};
use std::fs::{self, File};
use std::hint::black_box;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, parent_id};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Tells a process of this program that it is part of a load.
const ROLE: &str = "VWATCH_LOAD";
const TICKS_A_SECOND: u32 = 10;
/// An idle process that was forgotten (its load killed by SIGKILL) ends after so long.
const IDLE_S: u64 = 6 * 3600;

const NAMES: [&str; 8] = [
    "postgres: app orders 10.1.4.{} idle",
    "nginx: worker process {}",
    "/opt/app/bin/java -Xmx512m -cp /opt/app/lib/service-{}.jar com.example.Main",
    "python3 /srv/jobs/queue-{}.py --queue default",
    "/usr/libexec/session-worker --seat seat{}",
    "redis-server 127.0.0.1:{}",
    "node /srv/web/{}/index.js",
    "sshd: deploy{} [priv]",
];

/// How large a load is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Processes that do nothing.
    pub idle: u32,
    /// Processes that compute, allocate and write now and then.
    pub busy: u32,
    /// Children a second that end at once.
    pub rate: u32,
}

/// Starts a load from a copy of this program in `dir`: recorded paths are not those of a checkout.
pub fn start(dir: &Path, size: Size) -> Result<Child> {
    let worker = dir.join("worker");
    fs::copy(std::env::current_exe()?, &worker).with_context(|| format!("cannot make {}", worker.display()))?;
    let mut load = Command::new(&worker);
    load.env(ROLE, format!("host {} {} {}", size.idle, size.busy, size.rate));
    load.stdin(Stdio::piped()).process_group(0);
    load.spawn().context("cannot start the load")
}

/// What this process is to be when it is part of a load; None when it is not.
pub fn role() -> Option<Result<()>> {
    let role = std::env::var(ROLE).ok()?;
    let words: Vec<&str> = role.split(' ').collect();
    Some(match words[..] {
        ["host", idle, busy, rate] => host(idle, busy, rate),
        ["busy"] => busy(),
        _ => Err(anyhow::anyhow!("{ROLE}={role}: no part of a load")),
    })
}

fn host(idle: &str, busy: &str, rate: &str) -> Result<()> {
    let size = Size {
        idle: idle.parse()?,
        busy: busy.parse()?,
        rate: rate.parse()?,
    };
    static OVER: AtomicBool = AtomicBool::new(false);
    std::thread::spawn(|| {
        // Nothing is ever written to it: this returns when the other end is closed.
        let _ = std::io::stdin().read(&mut [0]);
        OVER.store(true, Ordering::Relaxed);
    });
    let mut lasting = Vec::new();
    let result = all(size, &mut lasting).and_then(|()| {
        let mut brief: Vec<Child> = Vec::new();
        let mut next = Instant::now();
        let mut due = 0;
        while !OVER.load(Ordering::Relaxed) {
            due += size.rate;
            for _ in 0..due / TICKS_A_SECOND {
                brief.push(quiet(&mut Command::new("true")).spawn()?);
            }
            due %= TICKS_A_SECOND;
            brief.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
            next += Duration::from_secs(1) / TICKS_A_SECOND;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        Ok(())
    });
    for child in &mut lasting {
        // Gone already, or it goes now.
        let _ = child.kill();
        let _ = child.wait();
    }
    result
}

fn all(size: Size, lasting: &mut Vec<Child>) -> Result<()> {
    for n in 0..size.idle {
        let mut idle = Command::new("sleep");
        idle.arg0(name(n)).arg(IDLE_S.to_string());
        lasting.push(quiet(&mut idle).spawn().context("cannot start sleep")?);
    }
    let this = std::env::current_exe()?;
    for n in 0..size.busy {
        let mut busy = Command::new(&this);
        busy.arg0(name(n * 3 + 1)).env(ROLE, "busy");
        lasting.push(quiet(&mut busy).spawn()?);
    }
    Ok(())
}

fn name(n: u32) -> String {
    NAMES[n as usize % NAMES.len()].replace("{}", &(u64::from(n) * 7919 % 5000).to_string())
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

/// Computes a few milliseconds, holds some memory, writes a little, and sleeps about a second, over and over.
fn busy() -> Result<()> {
    let parent = parent_id();
    let mut seed = u64::from(std::process::id());
    let mut random = |below: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % below
    };
    let mut sink = File::options().write(true).open("/dev/null")?;
    let mut held: Vec<Vec<u8>> = Vec::new();
    while parent_id() == parent {
        let until = Instant::now() + Duration::from_micros(random(4000));
        while Instant::now() < until {
            black_box(random(2));
        }
        if random(5) == 0 {
            held.push(vec![1; random(200_000) as usize]);
        }
        if random(10) == 0 {
            held.drain(..held.len().saturating_sub(3));
        }
        sink.write_all(&vec![b'x'; random(5000) as usize])?;
        std::thread::sleep(Duration::from_millis(200 + random(1200)));
    }
    Ok(())
}
