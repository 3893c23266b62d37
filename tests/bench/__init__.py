"""`make bench`: what the proxy costs, against PostgreSQL alone, PgBouncer and pgpool-II, in one run.

contenders   each of them in front of the same sandbox, as a process to start and stop
measure      one run of pgbench, and the CPU time the contender spent on it
report       tables for people, JSON for machines
"""
