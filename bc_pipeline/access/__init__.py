"""Who may ask the service, from where and how often.

Nothing here knows HTTP frameworks: headers come as the pairs of bytes that ASGI gives.
"""
