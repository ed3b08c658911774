//! A library with the mark of a plugin whose root module has another layout: for the loader's tests of the layout check.

use vwatch_abi::abi_stable::library::RootModule;
use vwatch_abi::abi_stable::prefix_type::PrefixTypeTrait;
use vwatch_abi::abi_stable::sabi_types::VersionStrings;
use vwatch_abi::abi_stable::{StableAbi, declare_root_module_statics, export_root_module, package_version_strings};
use vwatch_abi::v1::Mark;

/// Named as the real one.
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginModuleRef, prefix_fields = PluginModulePrefix)))]
#[sabi(missing_field(panic))]
pub struct PluginModule {
    #[sabi(last_prefix_field)]
    pub create: extern "C" fn(u32, u64) -> u32,
}

impl RootModule for PluginModuleRef {
    declare_root_module_statics! {PluginModuleRef}
    const BASE_NAME: &'static str = "vwatch_plugin";
    const NAME: &'static str = "vwatch_plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}

#[allow(non_upper_case_globals)]
#[unsafe(no_mangle)]
pub static vwatch_plugin_abi_v1: Mark = Mark::THIS;

#[export_root_module]
fn module() -> PluginModuleRef {
    PluginModule { create }.leak_into_prefix()
}

extern "C" fn create(_: u32, _: u64) -> u32 {
    0
}
