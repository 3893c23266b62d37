"""Answers from the query cache are, byte for byte, those that PostgreSQL gives."""
