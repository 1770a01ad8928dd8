"""A run: its directory, its data, its model, its training and its evaluation."""
