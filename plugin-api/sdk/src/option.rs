//! Options of a probe: typed, documented, with defaults.
//!
//! The host reads an option's text by its declared type; it crosses as JSON (durations in nanoseconds, sizes in bytes, lists
//! as arrays) and is decoded here. The host checks names and types first; both sides name the nearest known option.

use crate::error::{ProbeError, Result};
use crate::{JsonObject, describe};
use serde_json::{Value, json};
use std::time::Duration;
use vwatch_abi::describe::{OptionType, ProbeOption};

/// A size, written `4KiB` or `2MB`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// The options of a probe. Implemented by `#[derive(Options)]`.
///
/// ```
/// use vwatch_sdk::prelude::*;
///
/// /// Options of `cpu.cpu_time`.
/// #[derive(Options)]
/// pub struct CpuTimeOptions {
///     /// Only this CPU.
///     pub cpu: Option<i64>,
///     /// Also the total of all.
///     #[option(default = true)]
///     pub total: bool,
///     /// Read again after this long.
///     #[option(default = "10s")]
///     pub refresh: Duration,
///     /// Modes to leave out.
///     #[option(default = "steal,guest")]
///     pub without: Vec<String>,
/// }
/// ```
///
/// An `Option` is not required and has no default; another type is required unless it has a default. `name = "…"` where the
/// option's name is no Rust name. A default that cannot be read is an error of compilation:
///
/// ```compile_fail
/// # use vwatch_sdk::prelude::*;
/// #[derive(Options)]
/// struct O {
///     /// Documented.
///     #[option(default = "10 lightyears")]
///     wait: Duration,
/// }
/// ```
/// ```compile_fail
/// # use vwatch_sdk::prelude::*;
/// #[derive(Options)]
/// struct O {
///     #[option(default = 1)]
///     undocumented: i64,
/// }
/// ```
/// ```compile_fail
/// # use vwatch_sdk::prelude::*;
/// #[derive(Options)]
/// struct O {
///     /// A setting of the host.
///     every: Option<Duration>,
/// }
/// ```
pub trait Options: Sized {
    fn describe() -> Vec<ProbeOption>;
    fn decode(given: &JsonObject) -> Result<Self>;
}

/// For probes without options.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NoOptions;

impl Options for NoOptions {
    fn describe() -> Vec<ProbeOption> {
        Vec::new()
    }

    fn decode(given: &JsonObject) -> Result<Self> {
        check_names(given, &[])?;
        Ok(NoOptions)
    }
}

/// A type that an option can have: `bool, i64, f64, String, Duration, Bytes, Vec<String>`, and `Option` of each.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be an option of a probe",
    label = "not an option type",
    note = "options are bool, i64, f64, String, Duration, Bytes, Vec<String>, or Option of one of these"
)]
pub trait OptionValue: Sized {
    const KIND: OptionType;
    /// Whether there is a value when nothing is given and there is no default.
    const OPTIONAL: bool;

    /// From JSON; the error says what was expected.
    fn decode(value: &Value) -> Result<Self, &'static str>;
    fn encode(&self) -> Value;
    fn absent() -> Option<Self>;
}

macro_rules! option_values {
    ($($type:ty, $kind:ident, $expected:literal, |$value:ident| $decode:expr, |$own:ident| $encode:expr;)*) => {$(
        impl OptionValue for $type {
            const KIND: OptionType = OptionType::$kind;
            const OPTIONAL: bool = false;

            fn decode($value: &Value) -> Result<Self, &'static str> {
                $decode.ok_or($expected)
            }

            fn encode(&self) -> Value {
                let $own = self;
                $encode
            }

            fn absent() -> Option<Self> {
                None
            }
        }

        impl OptionValue for Option<$type> {
            const KIND: OptionType = OptionType::$kind;
            const OPTIONAL: bool = true;

            fn decode(value: &Value) -> Result<Self, &'static str> {
                <$type as OptionValue>::decode(value).map(Some)
            }

            fn encode(&self) -> Value {
                self.as_ref().map_or(Value::Null, <$type as OptionValue>::encode)
            }

            fn absent() -> Option<Self> {
                Some(None)
            }
        }
    )*};
}

option_values! {
    bool, Bool, "true or false", |v| v.as_bool(), |own| json!(own);
    i64, Integer, "a whole number", |v| v.as_i64(), |own| json!(own);
    f64, Float, "a number", |v| v.as_f64(), |own| json!(own);
    String, String, "a text", |v| v.as_str().map(str::to_owned), |own| json!(own);
    Duration, Duration, "a duration in nanoseconds", |v| v.as_u64().map(Duration::from_nanos),
        |own| json!(u64::try_from(own.as_nanos()).unwrap_or(u64::MAX));
    Bytes, Bytes, "a number of bytes", |v| v.as_u64().map(Bytes), |own| json!(own.0);
    Vec<String>, List, "a list of texts",
        |v| v.as_array().and_then(|a| a.iter().map(|word| word.as_str().map(str::to_owned)).collect()),
        |own| json!(own);
}

/// An option as it stands in the manifest.
pub fn describe_option<T: OptionValue>(name: &str, doc: &str, default: Option<T>) -> ProbeOption {
    describe::ProbeOption {
        name: name.to_owned(),
        kind: T::KIND,
        doc: doc.to_owned(),
        required: !T::OPTIONAL && default.is_none(),
        default: default.as_ref().map_or(Value::Null, T::encode),
    }
}

/// The value of an option, given or by default.
pub fn decode_option<T: OptionValue>(given: &JsonObject, name: &str, default: Option<T>) -> Result<T> {
    match given.get(name) {
        None | Some(Value::Null) => default
            .or_else(T::absent)
            .ok_or_else(|| ProbeError::bad_option(name, "it is required")),
        Some(value) => {
            T::decode(value).map_err(|expected| ProbeError::bad_option(name, format!("{value} is not {expected}")))
        }
    }
}

/// Refuses a name that is not among `known`, with the nearest that is.
pub fn check_names(given: &JsonObject, known: &[&str]) -> Result<()> {
    let Some(unknown) = given.keys().find(|name| !known.contains(&name.as_str())) else {
        return Ok(());
    };
    let nearest = known
        .iter()
        .map(|name| (strsim::jaro_winkler(name, unknown), name))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    Err(ProbeError::bad_input(match nearest {
        _ if known.is_empty() => format!("no option {unknown:?}: this probe has none"),
        Some((_, name)) => format!("no option {unknown:?}; did you mean {name:?}?"),
        None => format!("no option {unknown:?}; there are {}", known.join(", ")),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Options of a test.
    #[derive(crate::Options, Debug, PartialEq)]
    struct Sample {
        /// Only this CPU.
        cpu: Option<i64>,
        /// Also the total.
        #[option(default = true)]
        total: bool,
        /// How long.
        #[option(default = "1m30s")]
        wait: Duration,
        /// How much.
        #[option(default = "4KiB")]
        room: Bytes,
        /// Which.
        #[option(default = "a,b", name = "modes")]
        words: Vec<String>,
        /// Must be given.
        path: String,
        /// A share.
        #[option(default = -0.5)]
        share: f64,
    }

    fn object(value: Value) -> JsonObject {
        value.as_object().cloned().unwrap()
    }

    #[test]
    fn defaults_and_given_values() {
        let got = Sample::decode(&object(json!({"path": "/x", "cpu": null}))).unwrap();
        assert_eq!(got.cpu, None);
        assert_eq!(
            (got.total, got.wait, got.room),
            (true, Duration::from_secs(90), Bytes(4096))
        );
        assert_eq!((got.words, got.share), (vec!["a".to_owned(), "b".to_owned()], -0.5));
        let got = Sample::decode(&object(
            json!({"path": "/x", "cpu": 3, "wait": 5, "room": 7, "modes": ["c"], "total": false, "share": 2}),
        ))
        .unwrap();
        assert_eq!(got.cpu, Some(3));
        assert_eq!(
            (got.total, got.wait, got.room),
            (false, Duration::from_nanos(5), Bytes(7))
        );
        assert_eq!((got.words, got.share), (vec!["c".to_owned()], 2.0));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let error = |value| Sample::decode(&object(value)).unwrap_err().message;
        assert_eq!(error(json!({})), "option path: it is required");
        assert_eq!(error(json!({"path": 3})), "option path: 3 is not a text");
        assert_eq!(
            error(json!({"path": "", "totl": true})),
            "no option \"totl\"; did you mean \"total\"?"
        );
        let none = NoOptions::decode(&object(json!({"x": 1}))).unwrap_err();
        assert_eq!(none.message, "no option \"x\": this probe has none");
    }

    #[test]
    fn the_manifest_has_types_and_defaults() {
        let options = Sample::describe();
        let of = |name: &str| options.iter().find(|o| o.name == name).unwrap();
        assert_eq!(of("wait").default, json!(90_000_000_000u64));
        assert_eq!(of("modes").default, json!(["a", "b"]));
        assert_eq!(
            (of("cpu").required, of("path").required, of("total").required),
            (false, true, false)
        );
        assert_eq!(of("room").kind, OptionType::Bytes);
        assert_eq!(of("cpu").doc, "Only this CPU.");
    }
}
