//! A host for plugin tests: fixture trees, golden rows
