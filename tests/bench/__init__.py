"""`make bench`: what a proxy costs, side by side with others in front of the same cluster, in one interleaved run.

`pgbench` runs pgbench once and reads what it says, `cpu` asks the operating system what a family of processes used,
`contenders` and `poolers` start and stop what is compared, `measure` puts these together round by round, `report` shows
and saves the outcome, `__main__` is the command line.
"""
