"""The OpenAPI document, and the HTML pages of the service."""
