"""The data of a run: a graph of stages, each named, verified and opened once."""
