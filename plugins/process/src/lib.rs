//! The plugin `process`: every process, and every end of one. The measuring is in `vwatch-probes`.

use vwatch_probes::process::{ProcessExitProbe, ProcessProbe};
use vwatch_sdk::prelude::*;

plugin! {
    name: "process",
    doc: "Every process, and the end of every process.",
    probes: [ProcessProbe],
    streams: [ProcessExitProbe],
}
