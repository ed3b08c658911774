//! Finds, checks and opens plugins, and turns their ABI into the host's model
