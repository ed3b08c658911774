//! `delta(counter, time)`, `rate(counter, time)` and `changes(value, time)`: aggregates over rows in the order of time.
//!
//! Rows of a history come in that order anyway, so nothing is sorted; `delta(x, time ORDER BY time)` asks for a sort where
//! they do not. [`crate::range_groups`] has the arithmetic.

use crate::error::{SqlError, kind};
use crate::range_groups::{Answer, Differs, DiffersBytes, Grown, Runs, Single, Value};
use arrow_array::types::{Float64Type, Int64Type, UInt64Type};
use arrow_schema::{DataType, Field, FieldRef, TimeUnit};
use datafusion::common::Result;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, GroupsAccumulator, ReversedUDAF, Signature, Volatility,
};
use std::sync::Arc;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Function {
    Delta,
    Rate,
    Changes,
}

const ALL: [Function; 3] = [Function::Delta, Function::Rate, Function::Changes];

#[derive(Debug, PartialEq, Eq, Hash)]
struct RangeFunction {
    function: Function,
    signature: Signature,
}

/// The functions for a session.
pub fn all() -> Vec<Arc<AggregateUDF>> {
    ALL.into_iter()
        .map(|function| {
            let signature = Signature::user_defined(Volatility::Immutable);
            Arc::new(AggregateUDF::new_from_impl(RangeFunction { function, signature }))
        })
        .collect()
}

/// How the function of this name is called.
pub fn form_of(name: &str) -> Option<&'static str> {
    ALL.into_iter().find(|f| f.name() == name).map(Function::form)
}

impl Function {
    fn name(self) -> &'static str {
        match self {
            Function::Delta => "delta",
            Function::Rate => "rate",
            Function::Changes => "changes",
        }
    }

    /// How it is called.
    fn form(self) -> &'static str {
        match self {
            Function::Delta => "delta(counter, time): what the counter grew by",
            Function::Rate => "rate(counter, time): what the counter grew by per second",
            Function::Changes => "changes(value, time): how often the value was another than in the row before",
        }
    }

    fn refused(self, message: String) -> SqlError {
        SqlError::refused(kind::REQUEST, message).hint(self.form())
    }
}

impl RangeFunction {
    /// The type in which a first argument is worked with.
    fn value_type(&self, given: &DataType) -> Result<DataType> {
        use DataType::*;
        let changes = self.function == Function::Changes;
        Ok(match given {
            Null | Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 => Int64,
            UInt64 => UInt64,
            Float16 | Float32 | Float64 | Decimal32(..) | Decimal64(..) | Decimal128(..) => Float64,
            Boolean | Timestamp(..) | Date32 | Date64 if changes => Int64,
            Utf8 | LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView if changes => Binary,
            other => {
                let message = format!("{} cannot be used with values of type {other}", self.function.name());
                return Err(self.function.refused(message).into());
            }
        })
    }

    fn with<W: Wanted>(&self, args: &AccumulatorArgs<'_>, wanted: W) -> Result<W::Made> {
        let name = self.function.name();
        if args.is_distinct {
            return Err(self
                .function
                .refused(format!("{name}(DISTINCT …) has no meaning"))
                .into());
        }
        let answer = match self.function {
            Function::Rate => Answer::PerSecond,
            Function::Delta | Function::Changes => Answer::Sum,
        };
        let changes = self.function == Function::Changes;
        let kind = args.expr_fields.first().map(|f| f.data_type().clone());
        Ok(match (changes, kind.unwrap_or(DataType::Null)) {
            (false, DataType::Int64) => wanted.make(Runs::<Grown<Int64Type>>::new(name, answer)),
            (false, DataType::UInt64) => wanted.make(Runs::<Grown<UInt64Type>>::new(name, answer)),
            (false, DataType::Float64) => wanted.make(Runs::<Grown<Float64Type>>::new(name, answer)),
            (true, DataType::Int64) => wanted.make(Runs::<Differs<Int64Type>>::new(name, answer)),
            (true, DataType::UInt64) => wanted.make(Runs::<Differs<UInt64Type>>::new(name, answer)),
            (true, DataType::Float64) => wanted.make(Runs::<Differs<Float64Type>>::new(name, answer)),
            (true, DataType::Binary) => wanted.make(Runs::<DiffersBytes>::new(name, answer)),
            (_, other) => {
                let message = format!("{name} cannot be used with values of type {other}");
                return Err(self.function.refused(message).into());
            }
        })
    }
}

/// The two forms in which the engine wants an aggregate.
trait Wanted {
    type Made;
    fn make<V: Value>(self, runs: Runs<V>) -> Self::Made;
}

struct Grouped;
struct One;

impl Wanted for Grouped {
    type Made = Box<dyn GroupsAccumulator>;
    fn make<V: Value>(self, runs: Runs<V>) -> Self::Made {
        Box::new(runs)
    }
}

impl Wanted for One {
    type Made = Box<dyn Accumulator>;
    fn make<V: Value>(self, runs: Runs<V>) -> Self::Made {
        Box::new(Single::new(runs))
    }
}

impl AggregateUDFImpl for RangeFunction {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Rows may come forward or backward in time. (A function without this is not given its ORDER BY either.)
    fn reverse_expr(&self) -> ReversedUDAF {
        ReversedUDAF::Identical
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let [value, time] = given else {
            let message = format!("{} takes two arguments, not {}", self.name(), given.len());
            return Err(self.function.refused(message).into());
        };
        let DataType::Timestamp(_, zone) = time else {
            let message = format!("the second argument of {} has to be a time, not {time}", self.name());
            return Err(self.function.refused(message).into());
        };
        let time = DataType::Timestamp(TimeUnit::Nanosecond, zone.clone());
        Ok(vec![self.value_type(value)?, time])
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(match (self.function, arguments.first()) {
            (Function::Delta, Some(value)) => value.clone(),
            (Function::Rate, _) => DataType::Float64,
            (Function::Delta | Function::Changes, _) => DataType::Int64,
        })
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let value = args
            .input_fields
            .first()
            .map_or(DataType::Int64, |f| f.data_type().clone());
        let sum = match self.function {
            Function::Changes => DataType::Int64,
            Function::Delta | Function::Rate => value.clone(),
        };
        let field = |part: &str, kind: &DataType| {
            let name = format!("{}[{part}]", args.name);
            Arc::new(Field::new(name, kind.clone(), true))
        };
        Ok(vec![
            field("first_time", &DataType::Int64),
            field("last_time", &DataType::Int64),
            field("first", &value),
            field("last", &value),
            field("sum", &sum),
        ])
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        self.with(&args, One)
    }

    fn groups_accumulator_supported(&self, _args: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        self.with(&args, Grouped)
    }
}
