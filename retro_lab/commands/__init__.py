"""Commands, one file each: parses arguments, calls the package, and prints results."""
