"""The data of a run: a graph of stages, each built, verified and opened once."""
