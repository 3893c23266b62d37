"""`make cache-check`: clients read and write registers through the query cache; what they saw is checked afterwards."""
