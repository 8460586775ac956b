"""What the machine can do at best: the least code that does the same work, without Heavylift."""
