"""Whole applications, each small enough to be read in one sitting."""
