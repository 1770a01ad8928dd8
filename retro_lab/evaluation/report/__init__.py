"""What is shown: tables, plots, pages, and the verdict in words."""
