"""The HTTP server: processes, sockets, TLS and the HTTP protocol."""
