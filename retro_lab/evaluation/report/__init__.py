"""Reports: tables, plots, HTML pages, and the verdict in words."""
