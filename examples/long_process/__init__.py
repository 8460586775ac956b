"""A long, CPU-bound process behind two routes: start it, and ask for its status. See `app.py`."""
