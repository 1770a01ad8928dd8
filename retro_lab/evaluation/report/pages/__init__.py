"""HTML pages: of a run, of many runs, and of the text itself; each is one file that loads nothing."""
