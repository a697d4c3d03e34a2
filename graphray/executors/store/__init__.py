"""The result store: values above some size live in files that all processes map, and travel as the names of these.

Three tiers, one mechanism: a small value goes in the message itself; a large one into a *segment*, a file in shared
memory (`/dev/shm`); where that is full, or too much for the run's memory budget, the same file lies on disk.

    directory   the folder of an executor's segments; goes with it, or is swept by a later start
    mapping     a file's bytes in this process
    segments    what the two sides say to each other: where the bytes of a value are
    registry    the driver's books: which segments there are, which are in use (`Registry`), and its handle of a value,
                which holds its segments (`Stored`)
    workshop    the worker's side: opens what it is sent, writes what it returns                (`Workshop`)
"""
