"""What the service says about itself: the OpenAPI document and the pages around it."""
