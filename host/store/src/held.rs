//! Readers that stay in one old transaction: what was freed since cannot be used again while they do, and the file grows.
//!
//! Source: LMDB's reader table, as `mdb_reader_list` prints it: a line of process, thread and transaction for each slot.

use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_void};

/// A reader inside a transaction for longer than this is worth a line in the log.
const LONG_NS: i64 = 120_000_000_000;

/// The reader table of an environment: process and transaction of each slot in use. `env` is live for the call.
pub(crate) fn readers(env: &lmdb::Environment) -> lmdb::Result<Vec<(i32, u64)>> {
    let mut lines: Vec<(i32, u64)> = Vec::new();
    let context: *mut c_void = (&raw mut lines).cast();
    // SAFETY: `env()` is the live environment; `line` has the type of `MDB_msg_func` and is called within this call only, with
    // `context`, which is the vector above that nothing else uses meanwhile.
    let code = unsafe { lmdb_sys::mdb_reader_list(env.env(), Some(line), context) };
    match code < 0 {
        true => Err(lmdb::Error::from_err_code(code)),
        false => Ok(lines),
    }
}

/// Takes in one line. The table's heading and slots without a transaction (`-`) are no readers.
unsafe extern "C" fn line(text: *const c_char, context: *mut c_void) -> c_int {
    // SAFETY: LMDB gives a string that ends in a NUL, and the context that `readers` gave it.
    let (text, lines) = unsafe { (CStr::from_ptr(text), &mut *context.cast::<Vec<(i32, u64)>>()) };
    lines.extend(text.to_str().ok().and_then(parse));
    0
}

fn parse(line: &str) -> Option<(i32, u64)> {
    let mut words = line.split_whitespace();
    let (pid, _, transaction) = (words.next()?, words.next()?, words.next()?);
    Some((pid.parse().ok()?, transaction.parse().ok()?))
}

/// Since when each reader has been seen in its transaction, and whether it was told of.
#[derive(Debug, Default)]
pub(crate) struct Held {
    since: BTreeMap<(i32, u64), (i64, bool)>,
}

impl Held {
    /// Takes in who reads now; answers those that have been in one transaction for long and were not told of yet, with the
    /// time that they have been seen there in ns.
    pub fn look(&mut self, readers: &[(i32, u64)], boot_ns: i64) -> Vec<(i32, i64)> {
        self.since.retain(|reader, _| readers.contains(reader));
        let mut long = Vec::new();
        for reader in readers {
            let (since, told) = self.since.entry(*reader).or_insert((boot_ns, false));
            let time_ns = boot_ns.saturating_sub(*since);
            if time_ns >= LONG_NS && !*told {
                *told = true;
                long.push((reader.0, time_ns));
            }
        }
        long
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lmdb_lists_who_reads() {
        let directory = tempfile::tempdir().unwrap();
        let env = lmdb::Environment::new().open(directory.path()).unwrap();
        assert_eq!(readers(&env), Ok(vec![]));
        let txn = env.begin_ro_txn().unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        assert_eq!(readers(&env), Ok(vec![(own, 0)]));
        drop(txn);
    }

    #[test]
    fn a_reader_is_told_of_once() {
        assert_eq!(parse("    pid     thread     txnid\n"), None);
        assert_eq!(parse("      1234 7f0a2c000b70 -\n"), None);
        assert_eq!(parse("      1234 7f0a2c000b70 56789\n"), Some((1234, 56789)));
        let mut held = Held::default();
        assert_eq!(held.look(&[(7, 1), (8, 1)], 0), []);
        assert_eq!(held.look(&[(7, 1), (8, 2)], LONG_NS), [(7, LONG_NS)]);
        assert_eq!(held.look(&[(7, 1), (8, 2)], LONG_NS + 5), []);
        assert_eq!(held.look(&[], LONG_NS + 6), []);
        assert_eq!(held.look(&[(7, 1)], LONG_NS + 7), []);
    }
}
