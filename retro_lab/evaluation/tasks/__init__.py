"""External benchmarks: tasks of lm-eval, and open-domain question answering."""
