//! Streams of whole numbers: what every column, slot list and time comes down to before it is compressed.
//!
//! A stream is one mode byte, its parameters, and *planes*: the lowest byte of every number, then the next byte of every
//! number, as many as the widest needs: a plane keeps the repetitions that zstd lives on, where packed bits would hide them.
//! All arithmetic wraps, so the whole range of i64 and u64 goes through.

use crate::bytes::{Bytes, Flaw};

const CONSTANT: u8 = 0;
/// Offsets from the least.
const OFFSET: u8 = 1;
/// Numbers near zero, their sign in the lowest bit.
const SIGNED: u8 = 2;
/// Differences to the number before, as offsets from the least difference.
const STEP_OFFSET: u8 = 3;
/// Differences to the number before, their sign in the lowest bit.
const STEP_SIGNED: u8 = 4;

pub(crate) fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

pub(crate) fn put_signed(out: &mut Vec<u8>, n: i64) {
    put_varint(out, zigzag(n));
}

fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

pub(crate) fn varint(bytes: &mut Bytes<'_>) -> Result<u64, Flaw> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = bytes.u8()?;
        if shift == 63 && byte > 1 {
            break;
        }
        n |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(n);
        }
    }
    Err("a number longer than 64 bits".into())
}

pub(crate) fn signed(bytes: &mut Bytes<'_>) -> Result<i64, Flaw> {
    varint(bytes).map(unzigzag)
}

/// A count or length.
pub(crate) fn size(bytes: &mut Bytes<'_>) -> Result<usize, Flaw> {
    usize::try_from(varint(bytes)?).map_err(|e| e.to_string())
}

fn bits(n: u64) -> u64 {
    u64::from(64 - n.leading_zeros())
}

/// What is known of a sequence before its mode is chosen: the least, and about how many bits each mode would take.
struct Survey {
    least: i64,
    least_step: i64,
    costs: [u64; 4],
}

fn survey(values: &[i64]) -> Survey {
    let (mut least, mut least_step, mut most, mut most_step) = (i64::MAX, i64::MAX, i64::MIN, i64::MIN);
    let mut before = values.first().copied().unwrap_or(0);
    for &v in values {
        (least, most) = (least.min(v), most.max(v));
    }
    for &v in values.iter().skip(1) {
        let step = v.wrapping_sub(before);
        (least_step, most_step) = (least_step.min(step), most_step.max(step));
        before = v;
    }
    let mut costs = [0; 4];
    before = values.first().copied().unwrap_or(0);
    for (i, &v) in values.iter().enumerate() {
        costs[0] += bits(v.wrapping_sub(least) as u64);
        costs[1] += bits(zigzag(v));
        if i > 0 {
            let step = v.wrapping_sub(before);
            costs[2] += bits(step.wrapping_sub(least_step) as u64);
            costs[3] += bits(zigzag(step));
        }
        before = v;
    }
    Survey {
        least,
        least_step,
        costs,
    }
}

/// About how many bits the numbers take in the best mode.
pub(crate) fn cost(values: &[i64]) -> u64 {
    survey(values).costs.into_iter().min().unwrap_or(0)
}

/// Greatest common divisor of the magnitudes; 1 when there is none but zeros.
fn divisor(magnitudes: impl Iterator<Item = u64>) -> u64 {
    let mut g = 0u64;
    for m in magnitudes {
        let (mut a, mut b) = (g, m);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        g = a;
        if g == 1 {
            break;
        }
    }
    g.max(1)
}

/// How much work goes into making a stream small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Offsets from the least: for what is stored for a minute.
    Little,
    /// Whichever mode takes fewest bits.
    Full,
}

/// Appends a stream of the numbers. Their count is not stored.
pub(crate) fn encode_with(effort: Effort, values: &[i64], out: &mut Vec<u8>) {
    match effort {
        Effort::Full => encode(values, out),
        Effort::Little => {
            let least = values.iter().min().copied().unwrap_or(0);
            if values.iter().all(|&v| v == least) {
                out.push(CONSTANT);
                put_signed(out, least);
                return;
            }
            out.push(OFFSET);
            put_signed(out, least);
            put_varint(out, 1);
            put_planes(out, values.iter().map(|v| v.wrapping_sub(least) as u64).collect());
        }
    }
}

/// [`encode_with`] full effort.
pub(crate) fn encode(values: &[i64], out: &mut Vec<u8>) {
    let first = values.first().copied().unwrap_or(0);
    if values.iter().all(|&v| v == first) {
        out.push(CONSTANT);
        put_signed(out, first);
        return;
    }
    let survey = survey(values);
    let best = survey.costs.iter().min().copied().unwrap_or(0);
    let mode = 1 + survey.costs.iter().position(|&c| c == best).unwrap_or(0) as u8;
    out.push(mode);
    let steps = || values.windows(2).map(|w| w[1].wrapping_sub(w[0]));
    match mode {
        OFFSET => {
            put_signed(out, survey.least);
            let offsets: Vec<u64> = values.iter().map(|v| v.wrapping_sub(survey.least) as u64).collect();
            put_scaled(out, offsets, |o| o, |o, g| o / g);
        }
        SIGNED => put_scaled(out, values.to_vec(), i64::unsigned_abs, scaled_signed),
        STEP_OFFSET => {
            put_signed(out, first);
            put_signed(out, survey.least_step);
            let offsets: Vec<u64> = steps().map(|s| s.wrapping_sub(survey.least_step) as u64).collect();
            put_scaled(out, offsets, |o| o, |o, g| o / g);
        }
        _ => {
            put_signed(out, first);
            put_scaled(out, steps().collect(), i64::unsigned_abs, scaled_signed);
        }
    }
}

fn scaled_signed(v: i64, g: u64) -> u64 {
    if g == 1 {
        return zigzag(v);
    }
    let magnitude = (v.unsigned_abs() / g) as i64;
    zigzag(if v < 0 { -magnitude } else { magnitude })
}

/// The divisor, the width, and the planes.
fn put_scaled<T: Copy>(out: &mut Vec<u8>, values: Vec<T>, magnitude: impl Fn(T) -> u64, scale: impl Fn(T, u64) -> u64) {
    let g = divisor(values.iter().map(|&v| magnitude(v)));
    put_varint(out, g);
    put_planes(out, values.into_iter().map(|v| scale(v, g)).collect());
}

fn put_planes(out: &mut Vec<u8>, scaled: Vec<u64>) {
    let width = bits(scaled.iter().fold(0, |all, v| all | v)).div_ceil(8);
    out.push(width as u8);
    for plane in 0..width {
        out.extend(scaled.iter().map(|v| (v >> (8 * plane)) as u8));
    }
}

/// Reads a stream of `n` numbers. The caller bounds `n`: a constant stream has no bytes that would.
pub(crate) fn decode(bytes: &mut Bytes<'_>, n: usize) -> Result<Vec<i64>, Flaw> {
    decode_to(bytes, n, |v| v)
}

/// [`decode`] of places, counts and distances: numbers of 32 bits.
pub(crate) fn decode_narrow(bytes: &mut Bytes<'_>, n: usize) -> Result<Vec<u32>, Flaw> {
    let mut all = 0;
    let narrow = decode_to(bytes, n, |v| {
        all |= v as u64;
        v as u32
    })?;
    match all >> 32 {
        0 => Ok(narrow),
        _ => Err("a number out of range".into()),
    }
}

#[inline(always)]
fn decode_to<T: Copy + Default>(bytes: &mut Bytes<'_>, n: usize, mut to: impl FnMut(i64) -> T) -> Result<Vec<T>, Flaw> {
    let mut out = Vec::new();
    let mode = bytes.u8()?;
    match mode {
        CONSTANT => out.resize(n, to(signed(bytes)?)),
        OFFSET => {
            let least = signed(bytes)?;
            let g = varint(bytes)?;
            planes(bytes, n, &mut out, |v| to(least.wrapping_add(v.wrapping_mul(g) as i64)))?;
        }
        SIGNED => {
            let g = varint(bytes)? as i64;
            planes(bytes, n, &mut out, |v| to(unzigzag(v).wrapping_mul(g)))?;
        }
        STEP_OFFSET => {
            let (mut value, least) = (signed(bytes)?, signed(bytes)?);
            let g = varint(bytes)?;
            if let Some(steps) = n.checked_sub(1) {
                out.push(to(value));
                planes(bytes, steps, &mut out, |v| {
                    value = value.wrapping_add(least.wrapping_add(v.wrapping_mul(g) as i64));
                    to(value)
                })?;
            } else {
                planes(bytes, 0, &mut out, |_| to(value))?;
            }
        }
        STEP_SIGNED => {
            let mut value = signed(bytes)?;
            let g = varint(bytes)? as i64;
            if let Some(steps) = n.checked_sub(1) {
                out.push(to(value));
                planes(bytes, steps, &mut out, |v| {
                    value = value.wrapping_add(unzigzag(v).wrapping_mul(g));
                    to(value)
                })?;
            } else {
                planes(bytes, 0, &mut out, |_| to(value))?;
            }
        }
        mode => return Err(format!("numbers of mode {mode}")),
    }
    Ok(out)
}

/// Appends `n` numbers in planes, in their order. Inlined so that what `value` sums up stays in registers.
#[inline(always)]
fn planes<T: Copy + Default>(
    bytes: &mut Bytes<'_>,
    n: usize,
    out: &mut Vec<T>,
    mut value: impl FnMut(u64) -> T,
) -> Result<(), Flaw> {
    let width = usize::from(bytes.u8()?);
    if width > 8 {
        return Err(format!("numbers of {width} bytes"));
    }
    let all = bytes.take(n.checked_mul(width).ok_or("count overflows")?)?;
    let plane = |p: usize| &all[p * n..(p + 1) * n];
    let from = out.len();
    out.resize(from + n, T::default());
    let out = &mut out[from..];
    // The usual widths in one pass.
    match width {
        0 => out.iter_mut().for_each(|o| *o = value(0)),
        1 => {
            for (o, &b) in out.iter_mut().zip(all) {
                *o = value(u64::from(b));
            }
        }
        2 => {
            for ((o, &a), &b) in out.iter_mut().zip(plane(0)).zip(plane(1)) {
                *o = value(u64::from(a) | u64::from(b) << 8);
            }
        }
        _ => {
            let mut wide = vec![0u64; n];
            for p in 0..width {
                for (v, &b) in wide.iter_mut().zip(plane(p)) {
                    *v |= u64::from(b) << (8 * p);
                }
            }
            for (o, v) in out.iter_mut().zip(wide) {
                *o = value(v);
            }
        }
    }
    Ok(())
}

/// Some numbers of a stream, by their places; read without the others where their mode allows it.
pub(crate) fn decode_at(bytes: &mut Bytes<'_>, n: usize, places: &[u32]) -> Result<Vec<i64>, Flaw> {
    let mut ahead = *bytes;
    let pick = |all: Vec<i64>| places.iter().map(|&i| all[i as usize]).collect();
    match ahead.u8()? {
        OFFSET => {
            let least = signed(&mut ahead)?;
            let g = varint(&mut ahead)?;
            *bytes = ahead;
            planes_at(bytes, n, places, |v| least.wrapping_add(v.wrapping_mul(g) as i64))
        }
        SIGNED => {
            let g = varint(&mut ahead)? as i64;
            *bytes = ahead;
            planes_at(bytes, n, places, |v| unzigzag(v).wrapping_mul(g))
        }
        _ => decode(bytes, n).map(pick),
    }
}

fn planes_at(bytes: &mut Bytes<'_>, n: usize, places: &[u32], value: impl Fn(u64) -> i64) -> Result<Vec<i64>, Flaw> {
    let width = usize::from(bytes.u8()?);
    if width > 8 {
        return Err(format!("numbers of {width} bytes"));
    }
    let all = bytes.take(n.checked_mul(width).ok_or("count overflows")?)?;
    let byte = |p: usize, i: usize| u64::from(all[p * n + i]) << (8 * p);
    let wide = |i: usize| (0..width).fold(0, |v, p| v | byte(p, i));
    Ok(places.iter().map(|&i| value(wide(i as usize))).collect())
}

/// A bit for each of some flags, the first in the lowest bit.
pub(crate) fn put_bits(out: &mut Vec<u8>, flags: &[bool]) {
    for chunk in flags.chunks(8) {
        out.push(
            chunk
                .iter()
                .enumerate()
                .fold(0, |byte, (i, &f)| byte | u8::from(f) << i),
        );
    }
}

pub(crate) fn bits_at(bytes: &mut Bytes<'_>, n: usize) -> Result<Vec<bool>, Flaw> {
    let packed = bytes.take(n.div_ceil(8))?;
    Ok((0..n).map(|i| packed[i / 8] >> (i % 8) & 1 != 0).collect())
}

/// Reads `n` flags, the lowest bit of a byte first: the places of those that are set.
pub(crate) fn ones_at(bytes: &mut Bytes<'_>, n: usize) -> Result<Vec<u32>, Flaw> {
    let packed = bytes.take(n.div_ceil(8))?;
    let ones: u32 = packed.iter().map(|b| b.count_ones()).sum();
    let mut out = Vec::with_capacity(ones as usize);
    for (i, chunk) in packed.chunks(8).enumerate() {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        let mut left = u64::from_le_bytes(word);
        while left != 0 {
            out.push((64 * i) as u32 + left.trailing_zeros());
            left &= left - 1;
        }
    }
    // The bits that fill the last byte say nothing.
    out.truncate(out.partition_point(|&place| (place as usize) < n));
    Ok(out)
}

/// Reads `n` flags. Of those at `places`, which rise: the ones that are set, and their ranks among all that are.
pub(crate) fn ranks_at(bytes: &mut Bytes<'_>, n: usize, places: &[u32]) -> Result<Ranks, Flaw> {
    let packed = bytes.take(n.div_ceil(8))?;
    let tail = (!n.is_multiple_of(8)).then(|| (1u8 << (n % 8)) - 1);
    let byte = |i: usize| match tail {
        Some(mask) if i + 1 == packed.len() => packed[i] & mask,
        _ => packed[i],
    };
    let mut out = Ranks::default();
    let mut counted = 0;
    for &place in places {
        let (at, bit) = (place as usize / 8, place % 8);
        out.all += packed[counted..at].iter().map(|b| b.count_ones()).sum::<u32>() as usize;
        counted = at;
        if byte(at) >> bit & 1 != 0 {
            let below = byte(at) & ((1u8 << bit) - 1);
            out.set.push(place);
            out.rank.push(out.all as u32 + below.count_ones());
        }
    }
    out.all += (counted..packed.len()).map(|i| byte(i).count_ones()).sum::<u32>() as usize;
    Ok(out)
}

/// Some of the flags that are set.
#[derive(Debug, Default)]
pub(crate) struct Ranks {
    pub set: Vec<u32>,
    /// Flags that are set before each.
    pub rank: Vec<u32>,
    /// How many are set of all flags.
    pub all: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn round(values: &[i64]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(values, &mut out);
        let mut bytes = Bytes::new(&out);
        assert_eq!(decode(&mut bytes, values.len()).unwrap(), values);
        assert!(bytes.rest().is_empty());
        out
    }

    #[test]
    fn regular_sequences_cost_nothing() {
        assert!(round(&[]).len() <= 2);
        assert!(round(&[7; 1000]).len() <= 3);
        let rising: Vec<i64> = (0..1000).map(|i| 5 + i * 4096).collect();
        assert!(round(&rising).len() <= 8);
        // Multiples of a tick take a byte each.
        let ticks: Vec<i64> = (0..1000).map(|i| (i * 7919 % 200) * 10_000_000).collect();
        assert!(round(&ticks).len() <= 1020);
    }

    #[test]
    fn extremes() {
        round(&[i64::MIN, i64::MAX, 0, -1, 1]);
        round(&[i64::MAX, i64::MIN]);
        round(&[0, i64::MIN, 0]);
        round(&[i64::MIN, 0]);
    }

    proptest! {
        #[test]
        fn any_numbers_come_back(values in prop::collection::vec(any::<i64>(), 0..200), scale in 0u32..60) {
            round(&values);
            let small: Vec<i64> = values.iter().map(|v| v >> scale).collect();
            round(&small);
            let multiples: Vec<i64> = values.iter().map(|v| (v >> 40).wrapping_mul(1024)).collect();
            round(&multiples);
            let mut out = Vec::new();
            encode_with(Effort::Little, &values, &mut out);
            prop_assert_eq!(decode(&mut Bytes::new(&out), values.len()).unwrap(), values);
        }

        #[test]
        fn any_bytes_are_numbers_or_an_error(raw in prop::collection::vec(any::<u8>(), 0..100), n in 0usize..50) {
            let _ = decode(&mut Bytes::new(&raw), n);
        }

        #[test]
        fn varints(n in any::<u64>(), s in any::<i64>()) {
            let mut out = Vec::new();
            put_varint(&mut out, n);
            put_signed(&mut out, s);
            let mut bytes = Bytes::new(&out);
            prop_assert_eq!((varint(&mut bytes), signed(&mut bytes)), (Ok(n), Ok(s)));
        }
    }
}
