//! Names: their forms, and the nearest known one to a mistyped one is left to the caller.

/// `[a-z][a-z0-9_]*`, at most 64 characters: tables, columns, probes.
pub fn is_identifier(name: &str) -> bool {
    let mut chars = name.bytes();
    name.len() <= 64
        && chars.next().is_some_and(|c| c.is_ascii_lowercase())
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'_')
}

/// `[a-z][a-z0-9_-]*`, at most 64 characters: plugins.
pub fn is_plugin_name(name: &str) -> bool {
    is_identifier(&name.replace('-', "_"))
}

/// `[A-Za-z0-9][A-Za-z0-9_.:@-]*`, at most 128 characters: instances.
pub fn is_instance_name(name: &str) -> bool {
    let mut chars = name.bytes();
    name.len() <= 128
        && chars.next().is_some_and(|c| c.is_ascii_alphanumeric())
        && chars.all(|c| c.is_ascii_alphanumeric() || b"_.:@-".contains(&c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        assert!(is_identifier("cpu_time") && !is_identifier("Cpu") && !is_identifier("") && !is_identifier("9a"));
        assert!(is_plugin_name("ptrace-tracer") && !is_plugin_name("a.b"));
        assert!(is_instance_name("fast") && is_instance_name("trace:12@web") && !is_instance_name("-x"));
    }
}
