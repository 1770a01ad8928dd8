"""What a corpus will cost in size and time, before anything is built."""
