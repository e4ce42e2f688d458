"""Who may ask the service, from where and how often."""
