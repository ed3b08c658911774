//! Checks of an IPC message before Arrow's decoder sees it: that decoder panics on what it does not expect (an unknown
//! type, a buffer outside the body, a bitmap too short for its rows), and an answer is outside input.
//!
//! Walks schema and batch in the order of the decoder: fields depth first, per field one node and its buffers.

use arrow_ipc::{Buffer, DateUnit, Field, FieldNode, IntervalUnit, Precision, TimeUnit, Type};
use arrow_schema::{DataType, Schema};

use crate::stream::StreamError;

/// Nesting of lists and structs.
const MAX_DEPTH: usize = 16;
/// Rows of one batch, or items of its lists.
const MAX_LENGTH: i64 = 1 << 31;

/// The schema of a schema message, if every type in it is one that this client reads.
pub fn schema(message: &arrow_ipc::Message<'_>) -> Result<Schema, StreamError> {
    let not_arrow = |what: &str| StreamError::NotArrow(what.to_owned());
    let schema = message
        .header_as_schema()
        .ok_or_else(|| not_arrow("a schema without its head"))?;
    if schema.endianness() != arrow_ipc::Endianness::Little {
        return Err(not_arrow("big-endian data"));
    }
    let fields = schema.fields().ok_or_else(|| not_arrow("a schema without fields"))?;
    for f in fields {
        field(&f, 0)?;
    }
    Ok(arrow_ipc::convert::fb_to_schema(schema))
}

fn field(f: &Field<'_>, depth: usize) -> Result<(), StreamError> {
    let refuse = |what: String| {
        Err(StreamError::Column {
            column: f.name().unwrap_or("?").to_owned(),
            what,
        })
    };
    if f.dictionary().is_some() {
        return refuse("dictionary encoding is not read here".to_owned());
    }
    if depth > MAX_DEPTH {
        return refuse("nested too deeply".to_owned());
    }
    let children = || f.children().map_or(0, |c| c.len());
    let known = match f.type_type() {
        Type::Null | Type::Bool | Type::Utf8 | Type::LargeUtf8 | Type::Utf8View => true,
        Type::Binary | Type::LargeBinary | Type::BinaryView => true,
        Type::Int => f.type_as_int().is_some_and(|t| [8, 16, 32, 64].contains(&t.bitWidth())),
        Type::FloatingPoint => f
            .type_as_floating_point()
            .is_some_and(|t| [Precision::SINGLE, Precision::DOUBLE].contains(&t.precision())),
        Type::FixedSizeBinary => f
            .type_as_fixed_size_binary()
            .is_some_and(|t| (1..=1 << 20).contains(&t.byteWidth())),
        Type::Date => f
            .type_as_date()
            .is_some_and(|t| [DateUnit::DAY, DateUnit::MILLISECOND].contains(&t.unit())),
        Type::Time => f.type_as_time().is_some_and(|t| match t.bitWidth() {
            32 => [TimeUnit::SECOND, TimeUnit::MILLISECOND].contains(&t.unit()),
            64 => [TimeUnit::MICROSECOND, TimeUnit::NANOSECOND].contains(&t.unit()),
            _ => false,
        }),
        Type::Timestamp => f.type_as_timestamp().is_some_and(|t| known_unit(t.unit())),
        Type::Duration => f.type_as_duration().is_some_and(|t| known_unit(t.unit())),
        Type::Interval => f.type_as_interval().is_some_and(|t| {
            [
                IntervalUnit::YEAR_MONTH,
                IntervalUnit::DAY_TIME,
                IntervalUnit::MONTH_DAY_NANO,
            ]
            .contains(&t.unit())
        }),
        Type::Decimal => f.type_as_decimal().is_some_and(|t| {
            [128, 256].contains(&t.bitWidth())
                && (1..=if t.bitWidth() == 128 { 38 } else { 76 }).contains(&t.precision())
                && (-76..=76).contains(&t.scale())
        }),
        Type::List | Type::LargeList => children() == 1,
        Type::Struct_ => children() > 0,
        _ => false,
    };
    if !known {
        return refuse(format!("a type that is not read here ({:?})", f.type_type()));
    }
    for child in f.children().into_iter().flatten() {
        field(&child, depth + 1)?;
    }
    Ok(())
}

fn known_unit(unit: TimeUnit) -> bool {
    [
        TimeUnit::SECOND,
        TimeUnit::MILLISECOND,
        TimeUnit::MICROSECOND,
        TimeUnit::NANOSECOND,
    ]
    .contains(&unit)
}

/// Checks that the nodes and buffers of a batch fit its schema and lie inside its body.
pub fn batch(batch: &arrow_ipc::RecordBatch<'_>, schema: &Schema, body: usize) -> Result<(), StreamError> {
    if batch.compression().is_some() {
        return Err(bad("compressed rows are not read here"));
    }
    if !(0..=MAX_LENGTH).contains(&batch.length()) {
        return Err(bad("its number of rows"));
    }
    let nodes = batch.nodes().ok_or_else(|| bad("no nodes"))?;
    let buffers = batch.buffers().ok_or_else(|| bad("no buffers"))?;
    let mut walk = Walk {
        nodes: nodes.iter(),
        buffers: buffers.iter(),
        variadic: batch
            .variadicBufferCounts()
            .map(|c| c.iter().collect())
            .unwrap_or_default(),
        next_variadic: 0,
        body: body as u64,
    };
    for field in schema.fields() {
        walk.column(field.data_type())?;
    }
    if walk.next_variadic != walk.variadic.len() {
        return Err(bad("counts of buffers that no column has"));
    }
    Ok(())
}

fn bad(what: &str) -> StreamError {
    StreamError::Batch(what.to_owned())
}

struct Walk<N, B> {
    nodes: N,
    buffers: B,
    variadic: Vec<i64>,
    next_variadic: usize,
    body: u64,
}

impl<'a, N: Iterator<Item = &'a FieldNode>, B: Iterator<Item = &'a Buffer>> Walk<N, B> {
    fn column(&mut self, kind: &DataType) -> Result<(), StreamError> {
        let node = self.nodes.next().ok_or_else(|| bad("a column without a node"))?;
        let (length, nulls) = (node.length(), node.null_count());
        if !(0..=MAX_LENGTH).contains(&length) || !(0..=length).contains(&nulls) {
            return Err(bad("a column's length"));
        }
        if *kind == DataType::Null {
            return Ok(());
        }
        let bitmap = self.buffer()?;
        if nulls > 0 && bitmap.saturating_mul(8) < length as u64 {
            return Err(bad("a bitmap of nulls that is too short"));
        }
        match kind {
            DataType::Struct(_) => {}
            DataType::Utf8View | DataType::BinaryView => {
                let data = self.variadic_count()?;
                self.buffer_of(16)?;
                (0..data).try_for_each(|_| self.buffer().map(drop))?;
            }
            DataType::Utf8 | DataType::Binary => {
                self.buffer_of(4)?;
                self.buffer()?;
            }
            DataType::LargeUtf8 | DataType::LargeBinary => {
                self.buffer_of(8)?;
                self.buffer()?;
            }
            DataType::List(_) => self.buffer_of(4)?,
            DataType::LargeList(_) => self.buffer_of(8)?,
            _ => self.buffer_of(kind.primitive_width().map_or(1, |w| w as u64))?,
        }
        match kind {
            DataType::Struct(fields) => fields.iter().try_for_each(|f| self.column(f.data_type())),
            DataType::List(item) | DataType::LargeList(item) => self.column(item.data_type()),
            _ => Ok(()),
        }
    }

    /// How many data buffers a column of views has.
    fn variadic_count(&mut self) -> Result<u64, StreamError> {
        let count = self.variadic.get(self.next_variadic).copied();
        self.next_variadic += 1;
        let count = count.and_then(|c| u64::try_from(c).ok());
        count
            .filter(|c| *c <= MAX_LENGTH as u64)
            .ok_or_else(|| bad("a count of buffers"))
    }

    /// A buffer of whole values of `width` bytes.
    fn buffer_of(&mut self, width: u64) -> Result<(), StreamError> {
        match self.buffer()? % width {
            0 => Ok(()),
            _ => Err(bad("a buffer that ends within a value")),
        }
    }

    /// Length of the next buffer.
    fn buffer(&mut self) -> Result<u64, StreamError> {
        let buffer = self.buffers.next().ok_or_else(|| bad("a column without its buffers"))?;
        let place = u64::try_from(buffer.offset())
            .ok()
            .zip(u64::try_from(buffer.length()).ok());
        match place {
            Some((offset, length)) if offset.checked_add(length).is_some_and(|end| end <= self.body) => Ok(length),
            _ => Err(bad("a buffer outside its body")),
        }
    }
}
