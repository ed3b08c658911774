//! The baseline: the rows of the history in memory, as the engine likes them best.

use crate::{Failed, cost};
use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int32Type;
use datafusion::datasource::MemTable;
use datafusion::prelude::{SessionConfig, SessionContext};
use std::sync::Arc;
use tokio::runtime::Runtime;
use vwatch_store::{InstanceId, Reader, ScanRequest, TableId};

/// A part of a large history is enough for a rate.
const MOST_ROWS: usize = 20_000_000;
const COLUMNS: [&str; 3] = ["pid", "rss_bytes", "utime_ns"];

pub struct Rows {
    batches: Vec<RecordBatch>,
    count: usize,
}

impl Rows {
    pub fn read(reader: &Reader, table: TableId, instance: InstanceId) -> Result<Rows, Failed> {
        let scan = reader.scan(ScanRequest {
            table,
            instances: vec![instance],
            from_ns: i64::MIN,
            to_ns: i64::MAX,
            columns: Some(COLUMNS.map(str::to_owned).to_vec()),
            conditions: Vec::new(),
        })?;
        let mut rows = Rows {
            batches: Vec::new(),
            count: 0,
        };
        for batch in scan {
            let batch = batch?;
            rows.count += batch.num_rows();
            rows.batches.push(batch);
            if rows.count >= MOST_ROWS {
                break;
            }
        }
        Ok(rows)
    }

    pub fn rows_a_second(&self, runtime: &Runtime, sql: &str) -> Result<f64, Failed> {
        let schema = self.batches.first().ok_or("no rows")?.schema();
        let table = MemTable::try_new(schema, vec![self.batches.clone()])?;
        let context = SessionContext::new_with_config(SessionConfig::new().with_target_partitions(1));
        context.register_table("process_history", Arc::new(table))?;
        let (answer, cost) = cost::of(|| runtime.block_on(async { context.sql(sql).await?.collect().await }));
        answer?;
        Ok(self.count as f64 / cost.cpu_ns * 1e9)
    }
}

pub fn pids(rows: &RecordBatch) -> Result<&[i32], Failed> {
    let column = rows
        .column_by_name("pid")
        .and_then(|c| c.as_primitive_opt::<Int32Type>());
    Ok(column.ok_or("no column pid")?.values())
}
