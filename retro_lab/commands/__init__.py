"""One file a command: what was typed is read, the work is asked for, the outcome is shown."""
