"""Commands: the only place where a configuration becomes objects."""
