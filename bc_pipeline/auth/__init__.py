"""Authentication, authorization, address rules and rate limits of the service.

It imports no HTTP framework: headers are pairs of bytes, as in ASGI.
"""
