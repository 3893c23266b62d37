"""`make state-fuzz`: clients that share few servers see what each would see on a connection of its own.

Two databases of one cluster hold the same. Every client has a session with each: one through Pointsman, one directly.
Each operation is done in both, and what came back is compared. What clients can know of each other (advisory locks,
notifications) belongs to a database, so both worlds go the same way.

`phrases_*` say what may be asked in SQL, `operation` how it is sent, `choice` and `step` what comes next; `session` is
one connection, `pair` the two of a client, `world` both databases; `play` carries steps out, `run` a whole run,
`shrink` finds what matters in it, and `report` tells.
"""
