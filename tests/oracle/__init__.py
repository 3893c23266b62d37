"""A real standby as the judge of routing: `make oracle`.

A statement that is routed to a standby must not fail there as read-only or in recovery, must return there what the
primary returns, and must leave no trace on the primary that it would have left by running there. Two figures come out:
misroutes, which must be none, and the share of the statements a standby could have had that the primary kept.

    schema, hostile      the database asked about, and the same made worse while routing watches
    expressions, places  what can hide a write or a dependence on the node, and where it can stand
    writes, reads, introspection, corpus    statements written by hand, with where each may run
    functions, relations    every function, table and view there is, enumerated when it runs
    generate             statements composed at random
    routed               the routing under test; the one file that knows how it is asked
    forms, choice        statements in the forms clients send them in, chosen at random
    endpoint, crowd      the same through a running Pointsman, with other clients there
    journal              what the servers' logs tell of them
    judge                both nodes, side by side
    trial, report        what became of each statement, counted and shown
"""
