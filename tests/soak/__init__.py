"""`make soak`: loads too long for `make test`, with the figures they gave."""
