"""The same CPU-bound work on the event loop, in a worker and in a child process. See `app.py`."""
