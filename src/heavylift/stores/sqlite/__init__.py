"""The SQLite store: one file, many processes of one machine.

`store` is the contract's object. Its operations (`adding`, `claiming`, `saving`, `workers`, `pruning`, `settings`) run
in transactions that `writer` makes, one process at a time (`turns`); `wakeups` tells those who wait.
"""
