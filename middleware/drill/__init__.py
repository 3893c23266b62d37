"""`pointsman drill`: something is broken on purpose, under a load that keeps books, and what it cost is reported.

scenarios     the drills, as data: what is broken, what is to be seen, what must not happen
stage         what a drill is played on: sandbox_stage, compose_stage, operator_stage
ledger        the load: clients that write numbered commits and read them back
books         what those clients were told
run           the order of things: load, break, watch, heal, watch, check
checks        books + what is in the table at the end → what was lost, doubled, stale
figures       books + marks → outages and the timeline
verdicts      figures + the settings' targets → passed or failed
report_*      for a terminal, for machines, for a browser

In: a stage, a drill and targets. Out: a Result. It talks to Pointsman as its clients and its operator do, by the
endpoint and by the control socket, so that it judges the one that runs.
"""
