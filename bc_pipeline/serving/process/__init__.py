"""The processes of the service: a launcher, its workers, a drainer; sockets and TLS."""
