"""The admin console's words: its commands, what each answers with, and the tables made of what workers report.

In: a line of text (`grammar`), reports (`middleware.reports`), totals. Out: a Command, a Table. Nothing here does
I/O: the protocol is relay/console.py's, and what commands do is middleware.supervisor.console's.
"""
