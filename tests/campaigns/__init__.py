"""Faults on purpose, with real processes: what is killed, what the jobs themselves wrote, and what the store says.

`python -m tests.campaigns` runs all of them at full size and says what was measured against what is promised;
`python -m tests.campaigns soak --minutes 15` one. The tests of this folder run the same code small.
"""
