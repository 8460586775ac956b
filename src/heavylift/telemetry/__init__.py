"""What others read of Heavylift: metrics."""
