"""Graphs on a Dask cluster: `gr.executors.Dask`.

driver                          Dask's scheduler                     worker process of the cluster
──────                          ────────────────                     ─────────────────────────────
Core, engine   ── unit, as one Dask task ─────▶  runs where the core  ──▶  seat: runs the unit's nodes
               ◀──── its answer, the task's result ──────────────────────    │
               ◀──── prints, emitted data: events of a topic ────────────────┤
Remote         ◀──── names of large results, which stay where they are ──────┘  (Dask moves, spills, replicates)

engine   the executor                                        parcel   a pickled value as Dask holds and sends it
remote   the driver's handle of a value that is elsewhere    seat     the worker's side
values   what is sent, kept and fetched                      homes    the cluster's workers, to the driver
"""
