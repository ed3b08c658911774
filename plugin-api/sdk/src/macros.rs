//! `plugin!`: the two symbols that make a library a plugin.
//!
//! What `abi_stable::export_root_module` would generate, written out so that authors need not depend on abi_stable.

use vwatch_abi::abi_stable::library::{__call_root_module_loader, CheckTypeLayout, LibHeader, RootModuleResult};
use vwatch_abi::abi_stable::prefix_type::PrefixTypeTrait;
use vwatch_abi::abi_stable::std_types::RResult;
use vwatch_abi::v1::{Fault, HostBox, PluginBox, PluginModule, PluginModuleRef};

/// The function through which the host makes the plugin.
pub type Create = extern "C" fn(HostBox) -> RResult<PluginBox, Fault>;

/// What abi_stable's library header calls.
pub type Root = extern "C" fn() -> RootModuleResult;

/// Answers the root module with `create` in it, its layout to be checked by the host.
pub fn root_module(module: fn() -> PluginModuleRef) -> RootModuleResult {
    __call_root_module_loader(module)
}

/// The module itself, never freed.
pub fn module(create: Create) -> PluginModuleRef {
    PluginModule { create }.leak_into_prefix()
}

/// The library header over `root`.
pub const fn header(root: Root) -> LibHeader {
    // SAFETY: `root` comes from `plugin!` alone, where it answers `root_module` of a `PluginModuleRef`.
    unsafe { LibHeader::from_constructor::<PluginModuleRef>(root, CheckTypeLayout::Yes) }
}

/// Makes the library a plugin that vwatchd loads. Once per library, at its root.
///
/// ```ignore
/// plugin! {
///     name: "alerting",                       // [a-z][a-z0-9_-]*
///     doc: "Rules over tables, and who is told.",
///     setup: Rules::read,                     // fn(&Context) -> Result<Rules>: what Context::shared answers
///     probes: [AlertProbe],                   // types that implement Probe
///     streams: [AlertEvents],                 // … StreamProbe
///     subscribers: [Evaluate],                // … Subscriber
///     commands: [ShowAlerts, Ack],            // … Command
///     tables: [AlertEvent],                   // row types that commands and timers emit
///     reconfigured: read_again,               // fn(&Context) -> Result<()>
///     stop: flush,                            // fn(&Context) -> Result<()>
/// }
/// ```
///
/// `name` and `doc` come first; everything else may be left out. The plugin's version is that of its package. A test gets
/// the plugin from the function `vwatch_plugin`, which this declares.
#[macro_export]
macro_rules! plugin {
    (name: $name:literal, doc: $doc:literal $(, $($rest:tt)*)?) => {
        #[cfg(panic = "abort")]
        ::core::compile_error!(
            "a plugin needs panic = \"unwind\": with \"abort\", a panic in a probe would end the whole recorder"
        );

        /// The plugin, as the host and tests get it.
        pub fn vwatch_plugin() -> $crate::Definition {
            #[allow(unused_mut)]
            let mut plugin = $crate::Definition::new($name, ::core::env!("CARGO_PKG_VERSION"), $doc);
            $($crate::plugin!(@with plugin $($rest)*);)?
            plugin
        }

        const _: () = {
            use $crate::__private as sdk;

            extern "C" fn create(host: sdk::v1::HostBox) -> sdk::RResult<sdk::v1::PluginBox, sdk::v1::Fault> {
                sdk::create(vwatch_plugin, host)
            }

            fn module() -> sdk::v1::PluginModuleRef {
                sdk::module(create)
            }

            extern "C" fn root() -> sdk::RootModuleResult {
                sdk::root_module(module)
            }

            /// The name that abi_stable looks for.
            #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
            pub static HEADER: sdk::LibHeader = sdk::header(root);

            /// Tells the host the version of the ABI before anything here runs.
            #[allow(non_upper_case_globals)]
            #[unsafe(no_mangle)]
            pub static vwatch_plugin_abi_v1: sdk::v1::Mark = sdk::v1::Mark::THIS;
        };
    };
    (@with $plugin:ident) => {};
    (@with $plugin:ident probes: [$($probe:ty),* $(,)?] $(, $($rest:tt)*)?) => {
        $($plugin = $plugin.probe($crate::__private::ProbeEntry::poll::<$probe>());)*
        $($crate::plugin!(@with $plugin $($rest)*);)?
    };
    (@with $plugin:ident streams: [$($probe:ty),* $(,)?] $(, $($rest:tt)*)?) => {
        $($plugin = $plugin.probe($crate::__private::ProbeEntry::stream::<$probe>());)*
        $($crate::plugin!(@with $plugin $($rest)*);)?
    };
    (@with $plugin:ident subscribers: [$($subscriber:ty),* $(,)?] $(, $($rest:tt)*)?) => {
        $($plugin = $plugin.subscriber($crate::__private::SubscriberEntry::of::<$subscriber>());)*
        $($crate::plugin!(@with $plugin $($rest)*);)?
    };
    (@with $plugin:ident commands: [$($command:ty),* $(,)?] $(, $($rest:tt)*)?) => {
        $($plugin = $plugin.command($crate::__private::CommandEntry::of::<$command>());)*
        $($crate::plugin!(@with $plugin $($rest)*);)?
    };
    (@with $plugin:ident tables: [$($row:ty),* $(,)?] $(, $($rest:tt)*)?) => {
        $($plugin = $plugin.tables::<$row>();)*
        $($crate::plugin!(@with $plugin $($rest)*);)?
    };
    (@with $plugin:ident setup: $setup:expr $(, $($rest:tt)*)?) => {
        $plugin = $plugin.setup($setup);
        $($crate::plugin!(@with $plugin $($rest)*);)?
    };
    (@with $plugin:ident reconfigured: $hook:expr $(, $($rest:tt)*)?) => {
        $plugin = $plugin.reconfigured($hook);
        $($crate::plugin!(@with $plugin $($rest)*);)?
    };
    (@with $plugin:ident stop: $hook:expr $(, $($rest:tt)*)?) => {
        $plugin = $plugin.stop($hook);
        $($crate::plugin!(@with $plugin $($rest)*);)?
    };
    (@with $plugin:ident $other:ident : $($rest:tt)*) => {
        ::core::compile_error!(::core::concat!(
            "plugin! does not know `", ::core::stringify!($other),
            "`: it takes name, doc, probes, streams, subscribers, commands, tables, setup, reconfigured, stop"
        ));
    };
    ($($other:tt)*) => {
        ::core::compile_error!("plugin! begins with name: \"…\", doc: \"…\"");
    };
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_name_that_abi_stable_looks_for() {
        let name = vwatch_abi::abi_stable::library::ROOT_MODULE_LOADER_NAME;
        assert!(
            include_str!("macros.rs").contains(&format!("export_name = \"{name}\"")),
            "{name}"
        );
        assert!(include_str!("macros.rs").contains(&format!("static {}:", vwatch_abi::v1::MARK_SYMBOL)));
    }
}
