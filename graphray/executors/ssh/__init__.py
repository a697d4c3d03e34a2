"""Graphs on machines joined over SSH: `gr.executors.SSH`. The engine underneath is Dask's, with a scheduler of our own.

driver                                              node
──────                                              ────
SSH ── Link ── ssh ─── stdin: configuration ─────▶  agent ──── starts, watches, restarts ───▶  worker processes
                   ◀── stdout: exits, output ─────    │         (ends with the connection)           │
Scheduler, Client ◀═════════════════ TLS, certificates of this run on both sides ════════════════════╝

certificates   the authority made for a run, and TLS contexts that touch no disk
quiet          Dask's scheduler and worker without their HTTP servers
link           one connection to a node                                    (driver)
refusal        why a machine could not be joined                              (driver)
agent          the program at its other end                                (node)
node           a worker process                                            (node)
engine         the executor
"""
