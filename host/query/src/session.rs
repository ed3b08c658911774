//! One engine session per request: the functions, the planner hook, the memory limit, and the tables of one snapshot.
//!
//! Built by hand instead of with the engine's defaults: no file formats, no table factories, no temporary files, so that
//! SQL has no way to a file; and one partition, since a query must not take a second CPU from the host it looks at.

use crate::as_of::AsOf;
use crate::error::{SqlError, kind};
use crate::failure::{explain, nearest};
use crate::give_way::GiveWay;
use crate::memory::Ceiling;
use crate::moments::Moments;
use crate::open_instances;
use crate::snapshot::Snapshot;
use crate::statement;
use crate::tables::{CATALOG, SCHEMA, Tables};
use crate::{range_functions, time_bucket};
use arrow_array::temporal_conversions::timestamp_ns_to_datetime;
use datafusion::catalog::{CatalogProviderList, MemoryCatalogProviderList};
use datafusion::common::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::execution::{SendableRecordBatchStream, SessionStateDefaults};
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement;
use std::sync::Arc;

#[derive(Debug)]
pub struct Session {
    state: SessionState,
    snapshot: Arc<Snapshot>,
    tables: Tables,
    sql: Arc<str>,
}

impl Session {
    pub fn new(snapshot: Arc<Snapshot>, sql: &str, memory_bytes: usize) -> Result<Session, SqlError> {
        let tables = Tables::new(snapshot.clone());
        let sql: Arc<str> = sql.into();
        let state =
            build(&snapshot, &tables, &sql, memory_bytes).map_err(|e| SqlError::Refused(explain(&e, &sql, &[])))?;
        Ok(Session {
            state,
            snapshot,
            tables,
            sql,
        })
    }

    /// Plans the statement and begins to run it.
    pub async fn run(&self) -> Result<SendableRecordBatchStream, SqlError> {
        let statement = statement::parse(&self.sql)?;
        self.check_tables(&statement)?;
        self.start(statement).await.map_err(|e| self.refused(&e))
    }

    /// The engine's error in the words of this project.
    pub fn refused(&self, error: &DataFusionError) -> SqlError {
        SqlError::Refused(explain(error, &self.sql, &self.tables.column_names()))
    }

    async fn start(&self, statement: Statement) -> Result<SendableRecordBatchStream, DataFusionError> {
        let moments = Moments {
            zone: &self.snapshot.zone,
            now_ns: self.snapshot.now_ns,
            sql: &self.sql,
        };
        let plan = self.state.statement_to_plan(statement).await?;
        let plan = moments.rewrite(open_instances::mark(plan)?)?;
        let plan = self.state.create_physical_plan(&plan).await?;
        execute_stream(plan, self.state.task_ctx())
    }

    /// Unknown tables are found here, where the nearest name is known.
    fn check_tables(&self, statement: &Statement) -> Result<(), SqlError> {
        let references = self
            .state
            .resolve_table_references(statement)
            .map_err(|e| self.refused(&e))?;
        for reference in references {
            let own_schema =
                reference.catalog().is_none_or(|c| c == CATALOG) && reference.schema().is_none_or(|s| s == SCHEMA);
            let described = reference.schema() == Some("information_schema");
            let function = self.state.table_functions().contains_key(reference.table());
            if described || function || (own_schema && self.tables.knows(reference.table())) {
                continue;
            }
            let refused = SqlError::refused(kind::UNKNOWN_TABLE, format!("there is no table {reference}"))
                .at(statement::place_of(&self.sql, reference.table()));
            let names = self.tables.names();
            return Err(match nearest(reference.table(), names.iter().map(String::as_str)) {
                Some(name) => refused.hint(format!("did you mean {name}?")),
                None => refused.hint("SELECT name, doc FROM vw_tables lists what there is"),
            });
        }
        Ok(())
    }
}

fn build(
    snapshot: &Arc<Snapshot>,
    tables: &Tables,
    sql: &Arc<str>,
    memory_bytes: usize,
) -> Result<SessionState, DataFusionError> {
    let mut config = SessionConfig::new()
        .with_target_partitions(1)
        .with_information_schema(true)
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        .with_collect_statistics(false);
    let options = config.options_mut();
    options.execution.time_zone = Some(snapshot.zone.name().to_string());
    options.sql_parser.collect_spans = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory_bytes)))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .build_arc()?;
    let catalogs = MemoryCatalogProviderList::new();
    catalogs.register_catalog(CATALOG.to_owned(), Arc::new(tables.clone()));
    let as_of = AsOf {
        snapshot: snapshot.clone(),
        sql: sql.clone(),
    };
    let ceiling = Ceiling::new(memory_bytes);
    let mut scalars = SessionStateDefaults::default_scalar_functions();
    scalars.push(time_bucket::function(snapshot.zone.clone()));
    let mut aggregates = SessionStateDefaults::default_aggregate_functions();
    aggregates.extend(range_functions::all());
    Ok(SessionStateBuilder::new()
        .with_config(config)
        .with_runtime_env(runtime)
        .with_execution_props(started_at(snapshot.now_ns))
        .with_catalog_list(Arc::new(catalogs))
        .with_expr_planners(SessionStateDefaults::default_expr_planners())
        .with_scalar_functions(scalars)
        .with_aggregate_functions(aggregates)
        .with_window_functions(SessionStateDefaults::default_window_functions())
        .with_table_function_list(SessionStateDefaults::default_table_functions())
        .with_relation_planners(vec![Arc::new(as_of)])
        .with_physical_optimizer_rule(Arc::new(GiveWay { ceiling }))
        .build())
}

/// What the engine keeps of a request's start: `now()` is `now_ns`.
pub fn started_at(now_ns: i64) -> ExecutionProps {
    let mut props = ExecutionProps::new();
    props.query_execution_start_time = timestamp_ns_to_datetime(now_ns).map(|now| now.and_utc());
    props
}
