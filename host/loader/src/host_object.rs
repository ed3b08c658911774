//! The host as a plugin holds it: the trait object of the ABI, carried to [`HostServices`].
//!
//! **Invariant:** nothing unwinds into a plugin. A panic in a service is a fault that says so.

use crate::convert;
use crate::fault::Fault;
use crate::rows::TableLayout;
use crate::services::{HostServices, InstanceSpec, Level, Query};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use vwatch_abi::abi_stable::sabi_trait::TD_Opaque;
use vwatch_abi::abi_stable::std_types::{RArc, ROption, RResult, RSlice, RStr, RString, RVec};
use vwatch_abi::describe;
use vwatch_abi::v1::{self, Host, Host_TO, HostBox};

/// Tables of the plugin's manifest: known from the trial before the plugin is made, in the trial only after.
pub(crate) type Tables = Arc<OnceLock<Vec<TableLayout>>>;

pub(crate) struct HostObject {
    plugin: String,
    services: Arc<dyn HostServices>,
    tables: Tables,
}

impl HostObject {
    pub(crate) fn boxed(plugin: String, services: Arc<dyn HostServices>, tables: Tables) -> HostBox {
        let object = HostObject {
            plugin,
            services,
            tables,
        };
        Host_TO::from_ptr(RArc::new(object), TD_Opaque)
    }
}

/// Runs a service; a panic in it becomes a fault.
fn served<T>(service: impl FnOnce() -> Result<T, Fault>) -> RResult<T, v1::Fault> {
    let outcome = catch_unwind(AssertUnwindSafe(service))
        .unwrap_or_else(|_| Err(Fault::failed("the host's own service panicked; see its log")));
    outcome.map_err(Fault::into_abi).into()
}

fn document<T: DeserializeOwned>(what: &str, json: RSlice<'_, u8>) -> Result<T, Fault> {
    serde_json::from_slice(json.as_slice()).map_err(|e| Fault::bad_input(format!("{what}: {e}")))
}

fn json<T: Serialize>(value: &T) -> Result<RVec<u8>, Fault> {
    let bytes = serde_json::to_vec(value).map_err(|e| Fault::failed(e.to_string()))?;
    Ok(bytes.into())
}

/// The form of answers that have no place for a fault: an empty object stands for what could not be had.
fn json_or_empty<T: Serialize>(value: impl FnOnce() -> T) -> RVec<u8> {
    catch_unwind(AssertUnwindSafe(|| json(&value()).ok()))
        .ok()
        .flatten()
        .unwrap_or_else(|| b"{}".to_vec().into())
}

impl Host for HostObject {
    fn log(&self, level: u8, message: RStr<'_>) {
        // A log that panics has nowhere left to say so.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            self.services.log(
                &self.plugin,
                Level::from_abi(level),
                &convert::message(message.as_str()),
            );
        }));
    }

    fn environment(&self) -> RVec<u8> {
        json_or_empty(|| {
            let here = self.services.environment();
            describe::Environment {
                host_version: here.host_version,
                proc_dir: here.proc_dir,
                sys_dir: here.sys_dir,
                live: here.live,
                state_dir: here.state_dir,
            }
        })
    }

    fn config(&self) -> RVec<u8> {
        json_or_empty(|| self.services.config(&self.plugin))
    }

    fn schema(&self, table: RStr<'_>) -> RResult<RVec<u8>, v1::Fault> {
        served(|| {
            let name = convert::text(table.as_str());
            let schema = self
                .services
                .schema(&name)
                .ok_or_else(|| Fault::not_found(format!("there is no table {name:?}")))?;
            json(&schema)
        })
    }

    fn emit(&self, instance: u64, commit: v1::Commit) -> RResult<(), v1::Fault> {
        served(|| {
            // A trial does not know the tables while the plugin is made, and would throw the rows away anyhow.
            let Some(tables) = self.tables.get() else { return Ok(()) };
            let commit = convert::commit(tables, commit)?;
            self.services.emit(&self.plugin, instance, commit)
        })
    }

    fn state(&self, key: RStr<'_>) -> RResult<ROption<RVec<u8>>, v1::Fault> {
        served(|| {
            let value = self.services.state(&self.plugin, &convert::text(key.as_str()))?;
            Ok(value.map(RVec::from).into())
        })
    }

    fn state_keys(&self, prefix: RStr<'_>) -> RResult<RVec<RString>, v1::Fault> {
        served(|| {
            let keys = self
                .services
                .state_keys(&self.plugin, &convert::text(prefix.as_str()))?;
            Ok(keys.into_iter().map(RString::from).collect())
        })
    }

    fn outbox(&self, limit: u32) -> RResult<RVec<v1::OutboxEntry>, v1::Fault> {
        served(|| {
            let entries = self.services.outbox(&self.plugin, limit as usize)?;
            Ok(entries
                .into_iter()
                .map(|e| v1::OutboxEntry {
                    id: e.id.into(),
                    body: e.body.into(),
                })
                .collect())
        })
    }

    fn timer(&self, token: u64, after_ns: u64) -> RResult<(), v1::Fault> {
        let after = (after_ns != u64::MAX).then(|| Duration::from_nanos(after_ns));
        served(|| self.services.timer(&self.plugin, token, after))
    }

    fn instance_start(&self, spec: RSlice<'_, u8>) -> RResult<RString, v1::Fault> {
        served(|| {
            let said: describe::InstanceSpec = document("instance to start", spec)?;
            let spec = InstanceSpec {
                probe: said.probe,
                name: said.name,
                every_ms: said.every_ms,
                for_ms: said.for_ms,
                options: said.options,
            };
            self.services.instance_start(&self.plugin, spec).map(RString::from)
        })
    }

    fn instance_stop(&self, name: RStr<'_>) -> RResult<(), v1::Fault> {
        served(|| self.services.instance_stop(&self.plugin, &convert::text(name.as_str())))
    }

    fn stream_send(&self, stream: u64, bytes: RSlice<'_, u8>) -> RResult<(), v1::Fault> {
        served(|| self.services.stream_send(stream, bytes.as_slice()))
    }

    fn stream_close(&self, stream: u64) -> RResult<(), v1::Fault> {
        served(|| self.services.stream_close(stream))
    }

    fn query(&self, token: u64, query: RSlice<'_, u8>) -> RResult<(), v1::Fault> {
        served(|| {
            let said: describe::Query = document("query", query)?;
            let query = Query {
                sql: said.sql,
                at_ns: said.at_ns,
                from_ns: said.from_ns,
                to_ns: said.to_ns,
            };
            self.services.query(&self.plugin, token, query)
        })
    }

    fn call(&self, op: RStr<'_>, _input: RSlice<'_, u8>) -> RResult<RVec<u8>, v1::Fault> {
        served(|| {
            let kind = crate::fault::FaultKind::NoSuchOperation;
            Err(Fault::new(
                kind,
                format!("this host has no operation {:?}", convert::text(op.as_str())),
            ))
        })
    }
}
