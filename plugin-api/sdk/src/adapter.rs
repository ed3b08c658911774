//! The ABI's trait objects over a plugin's definition.
//!
//! **Invariant:** every method, and every drop of an author's value, runs under a guard: nothing unwinds into the host.

use crate::command::Call;
use crate::context::{Context, Shared};
use crate::error::{Kind, ProbeError, Result};
use crate::guard::{caught, entry, lock};
use crate::host::Link;
use crate::out::{Out, Writable};
use crate::plugin::{Definition, Receiving, Running};
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use vwatch_abi::abi_stable::sabi_trait::TD_Opaque;
use vwatch_abi::abi_stable::std_types::{RResult, RSlice, RStr, RVec};
use vwatch_abi::v1;
use vwatch_abi::v1::{CommandAnswer, CommandRequest, Commit, Fault, HostBox, PluginBox, ProbeBox, Received};

/// Makes the plugin that `define` describes.
pub fn create(define: impl FnOnce() -> Definition, host: HostBox) -> RResult<PluginBox, Fault> {
    entry(|| {
        let definition = define();
        let manifest = serde_json::to_vec(&definition.manifest()?)
            .map_err(|e| ProbeError::failed(format!("the manifest cannot be written: {e}")))?;
        let writable = Arc::new(definition.writable_of_plugin()?);
        let link = Arc::new(Link::new(host)?);
        let shared = match &definition.setup {
            Some(setup) => Some(setup(&Context::new(link.clone(), None, 0, writable.clone()))?),
            None => None,
        };
        let subscribers = definition.subscribers.iter().map(|_| Mutex::default()).collect();
        let plugin = Plugin {
            definition,
            manifest,
            writable,
            link,
            shared,
            subscribers,
        };
        Ok(PluginBox::from_value(plugin, TD_Opaque))
    })
}

struct Plugin {
    definition: Definition,
    manifest: Vec<u8>,
    writable: Arc<Writable>,
    link: Arc<Link>,
    shared: Option<Shared>,
    /// Open ones, in the manifest's order.
    subscribers: Vec<Mutex<Option<Box<dyn Receiving>>>>,
}

impl Plugin {
    /// The plugin's own context, with the configuration as it is now.
    fn context(&self) -> Context {
        Context::new(self.link.clone(), self.shared.clone(), 0, self.writable.clone())
    }

    fn receive_rows(&self, subscriber: u32, rows: Received<'_>) -> Result<()> {
        let index = subscriber as usize;
        let (Some(slot), Some(subscriber)) = (self.subscribers.get(index), self.definition.subscribers.get(index))
        else {
            return Err(ProbeError::not_found(format!("there is no subscriber {index}")));
        };
        let rows = (subscriber.read)(rows)?;
        let mut slot = lock(slot);
        // Taken out while it works: a panic leaves the place empty, and the next rows open it anew.
        let mut receiving = match slot.take() {
            Some(open) => open,
            None => (subscriber.open)(&self.context())?,
        };
        let result = caught(|| receiving.receive(&rows)).map_err(|e| e.about(subscriber.name()));
        match &result {
            Err(error) if error.kind == Kind::Panicked => discard(receiving),
            _ => *slot = Some(receiving),
        }
        result
    }

    fn run_command(&self, request: &CommandRequest<'_>) -> Result<CommandAnswer> {
        let command = self.definition.find_command(request.command.as_str())?;
        let mut call = Call::read(request, self.link.clone())?;
        let answer = (command.run)(&self.context(), &mut call)?;
        answer.finish(call.is_streaming())
    }
}

impl v1::Plugin for Plugin {
    fn manifest(&self) -> RVec<u8> {
        RVec::from(self.manifest.as_slice())
    }

    fn open(&self, probe: RStr<'_>, instance: u64, options: RSlice<'_, u8>) -> RResult<ProbeBox, Fault> {
        entry(|| {
            let probe = self.definition.find_probe(probe.as_str())?;
            let options = serde_json::from_slice(options.as_slice())
                .map_err(|e| ProbeError::bad_input(format!("the options are no JSON object: {e}")))?;
            let writable = Arc::new(self.definition.writable_of_probe(probe)?);
            let context = Context::new(self.link.clone(), self.shared.clone(), instance, writable);
            let running = (probe.open)(&context, &options)?;
            let instance = Instance {
                context,
                running: Ok(running),
            };
            Ok(ProbeBox::from_value(instance, TD_Opaque))
        })
    }

    fn receive(&self, subscriber: u32, rows: Received<'_>) -> RResult<(), Fault> {
        entry(|| self.receive_rows(subscriber, rows))
    }

    fn command(&self, request: CommandRequest<'_>) -> RResult<CommandAnswer, Fault> {
        entry(|| self.run_command(&request))
    }

    fn timer(&self, token: u64) -> RResult<(), Fault> {
        entry(|| match self.link.take_timer(token) {
            Some(action) => action(&self.context()),
            None => Ok(()),
        })
    }

    fn answered(&self, token: u64, answer: RResult<RVec<u8>, Fault>) -> RResult<(), Fault> {
        entry(|| match self.link.take_answer(token) {
            Some(action) => action(&self.context(), answer),
            None => Err(ProbeError::not_found(format!("nobody asked query {token}"))),
        })
    }

    fn reconfigured(&self, config: RSlice<'_, u8>) -> RResult<(), Fault> {
        entry(|| {
            let config: Value = serde_json::from_slice(config.as_slice())
                .map_err(|e| ProbeError::bad_input(format!("the configuration cannot be read: {e}")))?;
            *self.link.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
            self.definition
                .reconfigured
                .map_or(Ok(()), |hook| hook(&self.context()))
        })
    }

    fn stop(&self) -> RResult<(), Fault> {
        entry(|| {
            let result = caught(|| self.definition.stop.map_or(Ok(()), |hook| hook(&self.context())));
            self.link.forget_waiting();
            for slot in &self.subscribers {
                let open = lock(slot).take();
                if let Some(receiving) = open {
                    discard(receiving);
                }
            }
            result
        })
    }

    fn call(&self, op: RStr<'_>, _: RSlice<'_, u8>) -> RResult<RVec<u8>, Fault> {
        entry(|| Err(no_such_operation(op)))
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let (shared, subscribers) = (self.shared.take(), std::mem::take(&mut self.subscribers));
        discard(shared);
        discard(subscribers);
        self.link.forget_waiting();
    }
}

/// One instance of a probe; the error once it has panicked.
struct Instance {
    context: Context,
    running: Result<Box<dyn Running>>,
}

impl Instance {
    /// A call into the author's code. After a panic the probe is dropped, and every later call answers so.
    fn call(&mut self, work: impl FnOnce(&mut dyn Running, &mut Out) -> Result<()>) -> RResult<Commit, Fault> {
        entry(|| {
            let running = match &mut self.running {
                Ok(running) => running,
                Err(error) => return Err(error.clone()),
            };
            let mut out = self.context.out();
            let result = caught(|| work(running.as_mut(), &mut out));
            if let Err(error) = &result
                && error.kind == Kind::Panicked
            {
                let before = ProbeError::new(Kind::Panicked, format!("stopped for good: it {}", error.message));
                if let Ok(broken) = std::mem::replace(&mut self.running, Err(before)) {
                    discard(broken);
                }
            }
            result?;
            out.finish()
        })
    }
}

impl v1::Probe for Instance {
    fn run(&mut self, tick: v1::Tick) -> RResult<Commit, Fault> {
        self.call(|running, out| running.run(&tick.into(), out))
    }

    fn start(&mut self) -> RResult<(), Fault> {
        let emitter = self.context.emitter();
        self.call(|running, _| running.start(emitter)).map(drop)
    }

    fn stop(&mut self) -> RResult<Commit, Fault> {
        self.call(|running, out| running.stop(out))
    }

    fn call(&mut self, op: RStr<'_>, _: RSlice<'_, u8>) -> RResult<RVec<u8>, Fault> {
        entry(|| Err(no_such_operation(op)))
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let gone = ProbeError::failed("closed");
        if let Ok(running) = std::mem::replace(&mut self.running, Err(gone)) {
            discard(running);
        }
    }
}

/// Drops an author's value; a panic in its drop ends here.
fn discard<T>(value: T) {
    let _ = caught(|| {
        drop(value);
        Ok(())
    });
}

fn no_such_operation(op: RStr<'_>) -> ProbeError {
    ProbeError::new(Kind::NoSuchOperation, format!("the plugin knows no operation {op}"))
}
