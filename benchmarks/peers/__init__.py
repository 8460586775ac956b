"""What others do with the same work, measured in the same run."""
