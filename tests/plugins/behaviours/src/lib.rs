//! A plugin that uses every service of the host, and misbehaves on request
