"""The HTTP API: thin handlers that parse, call the client, and render. Imported only when it is asked for."""
