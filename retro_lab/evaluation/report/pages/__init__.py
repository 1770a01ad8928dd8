"""HTML pages of a run, of many runs and of scored text; each is one file that loads no other."""
