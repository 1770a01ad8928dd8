"""Other ways to use the same text and the same database, tuned and scored on the same tokens."""
