"""Two small jobs behind a queue with limits: queue them, ask for their status, look at the queue. See `app.py`."""
