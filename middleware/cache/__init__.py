"""The query cache: answers to reads, kept until what they were read from changes. See docs/query-cache.md."""
