"""One active job of each document, the newest wins; see app.py."""
