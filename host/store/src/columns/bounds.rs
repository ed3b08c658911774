//! Least and greatest value of a column in a block, so that a scan passes over what cannot fulfil its conditions.

use super::numbers::{put_signed, put_varint, signed, size, varint};
use super::typed::{Flat, Value};
use crate::bytes::{Bytes, Flaw};
use crate::types::{Scalar, Test};
use arrow_schema::DataType;

/// Bytes kept of a text.
const PREFIX: usize = 16;

const UNKNOWN: u8 = 0;
const NUMBERS: u8 = 1;
const UNSIGNED: u8 = 2;
const FLOATS: u8 = 3;
const TEXTS: u8 = 4;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Bounds {
    /// Nothing but NULLs, or nothing known (a NaN).
    Unknown,
    Numbers(i64, i64),
    Unsigned(u64, u64),
    Floats(f64, f64),
    /// At most [`PREFIX`] bytes of each.
    Texts(Vec<u8>, Vec<u8>),
}

/// What a block says of one column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Summary {
    pub nulls: u64,
    pub bounds: Bounds,
}

impl Summary {
    pub fn of(kind: &DataType, flat: &Flat) -> Summary {
        let nulls = flat.valid.as_ref().map_or(0, |v| v.iter().filter(|v| !**v).count());
        let some = || {
            let valid = flat.valid.as_deref();
            let numbered = flat.values.iter().enumerate();
            numbered
                .filter(move |(i, _)| valid.is_none_or(|v| v[*i]))
                .map(|(_, v)| *v)
        };
        let hull = |least: Option<i64>, most: Option<i64>| least.zip(most);
        let bounds = match kind {
            DataType::Utf8 | DataType::Binary => {
                let cut = |text: &[u8]| text[..text.len().min(PREFIX)].to_vec();
                let (least, most) = (flat.texts.iter().min(), flat.texts.iter().max());
                least.zip(most).map(|(a, b)| Bounds::Texts(cut(a), cut(b)))
            }
            DataType::Float64 => {
                let floats = || some().map(|v| f64::from_bits(v as u64));
                let any = floats().next().is_some() && !floats().any(f64::is_nan);
                let least = floats().fold(f64::INFINITY, f64::min);
                any.then(|| Bounds::Floats(least, floats().fold(f64::NEG_INFINITY, f64::max)))
            }
            DataType::UInt64 => {
                let unsigned = || some().map(|v| v as u64);
                unsigned()
                    .min()
                    .zip(unsigned().max())
                    .map(|(a, b)| Bounds::Unsigned(a, b))
            }
            _ => hull(some().min(), some().max()).map(|(a, b)| Bounds::Numbers(a, b)),
        };
        Summary {
            nulls: nulls as u64,
            bounds: bounds.unwrap_or(Bounds::Unknown),
        }
    }

    pub fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.nulls);
        match &self.bounds {
            Bounds::Unknown => out.push(UNKNOWN),
            Bounds::Numbers(least, most) => {
                out.push(NUMBERS);
                put_signed(out, *least);
                put_varint(out, most.wrapping_sub(*least) as u64);
            }
            Bounds::Unsigned(least, most) => {
                out.push(UNSIGNED);
                put_varint(out, *least);
                put_varint(out, most - least);
            }
            Bounds::Floats(least, most) => {
                out.push(FLOATS);
                out.extend_from_slice(&least.to_bits().to_le_bytes());
                out.extend_from_slice(&most.to_bits().to_le_bytes());
            }
            Bounds::Texts(least, most) => {
                out.push(TEXTS);
                for text in [least, most] {
                    put_varint(out, text.len() as u64);
                    out.extend_from_slice(text);
                }
            }
        }
    }

    pub fn read(bytes: &mut Bytes<'_>) -> Result<Summary, Flaw> {
        let nulls = varint(bytes)?;
        let bounds = match bytes.u8()? {
            UNKNOWN => Bounds::Unknown,
            NUMBERS => {
                let least = signed(bytes)?;
                Bounds::Numbers(least, least.wrapping_add(varint(bytes)? as i64))
            }
            UNSIGNED => {
                let least = varint(bytes)?;
                Bounds::Unsigned(least, least.wrapping_add(varint(bytes)?))
            }
            FLOATS => Bounds::Floats(f64::from_bits(bytes.u64()?), f64::from_bits(bytes.u64()?)),
            TEXTS => {
                let mut text = || {
                    let length = size(bytes)?;
                    Ok::<_, Flaw>(bytes.take(length)?.to_vec())
                };
                Bounds::Texts(text()?, text()?)
            }
            kind => return Err(format!("bounds of kind {kind}")),
        };
        Ok(Summary { nulls, bounds })
    }

    /// Whether some value may fulfil the test. What cannot be compared may.
    pub fn admits(&self, test: &Test) -> bool {
        match test {
            Test::Range { min, max } => self.above(min.as_ref()) && self.below(max.as_ref()),
            Test::In(values) => values.iter().any(|v| self.above(Some(v)) && self.below(Some(v))),
        }
    }

    /// Whether some value may be at or above `min`.
    fn above(&self, min: Option<&Scalar>) -> bool {
        match (&self.bounds, min) {
            (Bounds::Numbers(_, most), Some(Scalar::I64(min))) => most >= min,
            (Bounds::Numbers(_, most), Some(Scalar::Bool(min))) => *most >= i64::from(*min),
            (Bounds::Unsigned(_, most), Some(Scalar::U64(min))) => most >= min,
            (Bounds::Floats(_, most), Some(Scalar::F64(min))) => !min.is_finite() || most >= min,
            (Bounds::Texts(_, most), Some(Scalar::String(min))) => most.as_slice() >= cut(min),
            _ => true,
        }
    }

    /// Whether some value may be at or below `max`.
    fn below(&self, max: Option<&Scalar>) -> bool {
        match (&self.bounds, max) {
            (Bounds::Numbers(least, _), Some(Scalar::I64(max))) => least <= max,
            (Bounds::Numbers(least, _), Some(Scalar::Bool(max))) => *least <= i64::from(*max),
            (Bounds::Unsigned(least, _), Some(Scalar::U64(max))) => least <= max,
            (Bounds::Floats(least, _), Some(Scalar::F64(max))) => !max.is_finite() || least <= max,
            (Bounds::Texts(least, _), Some(Scalar::String(max))) => least.as_slice() <= max.as_bytes(),
            _ => true,
        }
    }
}

fn cut(text: &str) -> &[u8] {
    &text.as_bytes()[..text.len().min(PREFIX)]
}

/// Which values fulfil the test, in order; those that cannot be compared with it do.
pub(crate) fn fulfilling<'a>(
    kind: &DataType,
    values: impl Iterator<Item = Option<Value<'a>>>,
    test: &Test,
) -> Vec<bool> {
    let number = |scalar: &Scalar| match scalar {
        Scalar::I64(n) if *kind != DataType::UInt64 => Some(*n),
        _ => None,
    };
    // A list of numbers is looked up, not gone through.
    let listed: Option<Vec<i64>> = match test {
        Test::In(listed) => listed.iter().map(number).collect(),
        Test::Range { .. } => None,
    };
    let Some(mut listed) = listed else {
        return values.map(|v| fulfils(kind, v, test).unwrap_or(true)).collect();
    };
    listed.sort_unstable();
    let is_listed = |value: Option<Value<'_>>| match value {
        Some(Value::Number(n)) => listed.binary_search(&n).is_ok(),
        value => fulfils(kind, value, test).unwrap_or(true),
    };
    values.map(is_listed).collect()
}

/// Whether a value fulfils the test; None when it cannot be compared with it. NULL never does.
fn fulfils(kind: &DataType, value: Option<Value<'_>>, test: &Test) -> Option<bool> {
    let Some(value) = value else { return Some(false) };
    let compare = |scalar: &Scalar| {
        Some(match (value, scalar) {
            (Value::Number(v), Scalar::U64(s)) if *kind == DataType::UInt64 => (v as u64).cmp(s),
            (Value::Number(_), Scalar::I64(_)) if *kind == DataType::UInt64 => return None,
            (Value::Number(v), Scalar::I64(s)) => v.cmp(s),
            (Value::Number(v), Scalar::Bool(s)) => v.cmp(&i64::from(*s)),
            (Value::Float(v), Scalar::F64(s)) => v.partial_cmp(s)?,
            (Value::Text(v), Scalar::String(s)) => v.cmp(s.as_bytes()),
            _ => return None,
        })
    };
    match test {
        Test::Range { min, max } => {
            let above = min.as_ref().map_or(Some(true), |m| Some(compare(m)?.is_ge()))?;
            let below = max.as_ref().map_or(Some(true), |m| Some(compare(m)?.is_le()))?;
            Some(above && below)
        }
        Test::In(values) => {
            let mut any = false;
            for value in values {
                any |= compare(value)?.is_eq();
            }
            Some(any)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::{ArrayRef, Float64Array, Int64Array, StringArray, UInt64Array};
    use std::sync::Arc;

    fn summary(column: ArrayRef) -> Summary {
        let flat = super::super::typed::flatten(&column).unwrap();
        let summary = Summary::of(column.data_type(), &flat);
        let mut out = Vec::new();
        summary.put(&mut out);
        let mut bytes = Bytes::new(&out);
        assert_eq!(Summary::read(&mut bytes).unwrap(), summary);
        assert!(bytes.rest().is_empty());
        summary
    }

    fn range(min: Option<Scalar>, max: Option<Scalar>) -> Test {
        Test::Range { min, max }
    }

    #[test]
    fn numbers_outside_are_not_admitted() {
        let s = summary(Arc::new(Int64Array::from(vec![Some(-5), None, Some(9)])));
        assert_eq!(
            s,
            Summary {
                nulls: 1,
                bounds: Bounds::Numbers(-5, 9)
            }
        );
        assert!(s.admits(&range(Some(Scalar::I64(9)), None)));
        assert!(!s.admits(&range(Some(Scalar::I64(10)), None)));
        assert!(!s.admits(&range(None, Some(Scalar::I64(-6)))));
        assert!(!s.admits(&Test::In(vec![Scalar::I64(-6), Scalar::I64(10)])));
        assert!(s.admits(&Test::In(vec![Scalar::I64(-6), Scalar::I64(3)])));
        assert!(s.admits(&range(Some(Scalar::String("x".into())), None)));
        let s = summary(Arc::new(UInt64Array::from(vec![u64::MAX, 3])));
        assert!(!s.admits(&range(None, Some(Scalar::U64(2)))));
        let s = summary(Arc::new(Int64Array::from(vec![None, None])));
        assert_eq!(s.bounds, Bounds::Unknown);
    }

    #[test]
    fn floats_with_nan_are_unknown() {
        let s = summary(Arc::new(Float64Array::from(vec![0.5, -2.0])));
        assert!(!s.admits(&range(Some(Scalar::F64(0.6)), None)));
        assert!(s.admits(&range(Some(Scalar::F64(f64::NAN)), None)));
        let s = summary(Arc::new(Float64Array::from(vec![0.5, f64::NAN])));
        assert_eq!(s.bounds, Bounds::Unknown);
    }

    #[test]
    fn long_texts_are_bounded_by_their_beginnings() {
        let s = summary(Arc::new(StringArray::from(vec![
            "postgres: checkpointer",
            "apache",
            "postgres: writer",
        ])));
        let one = |text: &str| Test::In(vec![Scalar::String(text.into())]);
        assert!(s.admits(&one("postgres: writer 2")));
        assert!(!s.admits(&one("aab")));
        assert!(!s.admits(&one("postgres: x")));
        assert!(!s.admits(&one("systemd")));
    }
}
