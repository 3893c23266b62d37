"""The control plane: listening sockets, worker processes, the watch over the nodes, catalogs, counters, shutdown.

In: Settings and signals. Out: snapshots to the workers over the control channel, counters and bound addresses for
whoever shows them. No client's byte passes through here.

    supervisor  one run of it all
    listeners   TCP and unix sockets, bound once and inherited by every worker
    workers     a worker's process and its channel; restarts
    outbox      what waits to be sent to a worker
    counters    totals over all workers, also over those that died
    journal     what has become of the nodes, numbered
    asking      what workers are asked for
    console     the admin console's commands, carried out
    commands    what an operator may ask, however it is asked
    control_socket  the unix socket by which the shell's commands ask it
    catalogs    what routing must know of each database
"""

from middleware.supervisor.counters import CountersSnapshot
from middleware.supervisor.listeners import ListenError, StartError
from middleware.supervisor.supervisor import Supervisor

__all__ = ["CountersSnapshot", "ListenError", "StartError", "Supervisor"]
