"""`make consistency`: read-your-writes and monotonic reads, while standbys lag at random."""
