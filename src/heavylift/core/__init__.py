"""The rules and the words of Heavylift: pure, without I/O, clock, threads or await."""
