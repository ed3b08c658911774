//! The names that a query can read: the store's tables, their histories, the rates of their counters, and the tables that
//! describe them all ([`crate::describe`]).
//!
//! Providers are made when a name is asked for: a store has some sixty tables and a query reads one or two.

use crate::describe::{self, Described, HISTORY, described};
use crate::error::SqlError;
use crate::rate_columns::{self, Layout};
use crate::snapshot::Snapshot;
use crate::table::{StoredTable, View, has_history};
use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, SchemaProvider, TableProvider};
use datafusion::common::Result;
use datafusion::datasource::MemTable;
use std::sync::Arc;
use vwatch_model::TableKind;
use vwatch_store::TableEntry;

/// Name of the one catalog and of the one schema in it.
pub const CATALOG: &str = "vwatch";
pub const SCHEMA: &str = "host";

const TABLES: &str = "vw_tables";
const COLUMNS: &str = "vw_columns";
const STORAGE: &str = "store_table";

#[derive(Debug, Clone)]
pub struct Tables {
    snapshot: Arc<Snapshot>,
}

impl Tables {
    pub fn new(snapshot: Arc<Snapshot>) -> Tables {
        Tables { snapshot }
    }

    pub fn names(&self) -> Vec<String> {
        let mut names = [TABLES, COLUMNS, STORAGE].map(str::to_owned).to_vec();
        names.extend(described(&self.snapshot).into_iter().map(|d| d.name));
        names.sort();
        names
    }

    /// Names of the columns of every table, for a guess at what a mistyped one meant.
    pub fn column_names(&self) -> Vec<String> {
        let all = described(&self.snapshot);
        let mut names: Vec<String> = all.iter().flat_map(Described::columns).map(|c| c.name).collect();
        names.sort();
        names.dedup();
        names
    }

    pub fn knows(&self, name: &str) -> bool {
        matches!(name, TABLES | COLUMNS | STORAGE) || self.stored(name).is_some()
    }

    /// The stored table that a name means, and how it is read.
    fn stored(&self, name: &str) -> Option<StoredTable> {
        let of = |entry: &TableEntry, view| StoredTable::new(self.snapshot.clone(), Arc::new(entry.clone()), view);
        let now = View::Picture {
            at_ns: self.snapshot.at_ns,
        };
        if let Some(entry) = self.snapshot.table(name) {
            return Some(match entry.schema.kind {
                TableKind::State => of(entry, now),
                TableKind::Event => of(entry, View::History),
            });
        }
        let (name, view) = match name.strip_suffix(HISTORY) {
            Some(name) => (name, View::History),
            None => (name, now),
        };
        if view == View::History
            && let Some(entry) = self.snapshot.table(name)
        {
            return has_history(entry).then(|| of(entry, View::History));
        }
        let entry = self.snapshot.table(rate_columns::table_of(name)?)?;
        Some(of(entry, view).rated(Layout::of(entry)?))
    }

    fn provider(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        let described = match name {
            TABLES => describe::tables(&self.snapshot)?,
            COLUMNS => describe::columns(&self.snapshot)?,
            STORAGE => {
                let storage = self.snapshot.reader.storage().map_err(SqlError::from)?;
                describe::storage(&storage, &self.snapshot.zone)?
            }
            _ => {
                let stored = self.stored(name);
                return Ok(stored.map(|table| Arc::new(table) as Arc<dyn TableProvider>));
            }
        };
        let table = MemTable::try_new(described.schema(), vec![vec![described]])?;
        Ok(Some(Arc::new(table)))
    }
}

#[async_trait]
impl SchemaProvider for Tables {
    fn table_names(&self) -> Vec<String> {
        self.names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>> {
        self.provider(name)
    }

    fn table_exist(&self, name: &str) -> bool {
        self.knows(name)
    }
}

impl CatalogProvider for Tables {
    fn schema_names(&self) -> Vec<String> {
        vec![SCHEMA.to_owned()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        (name == SCHEMA).then(|| Arc::new(self.clone()) as Arc<dyn SchemaProvider>)
    }
}
