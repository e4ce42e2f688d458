"""What is counted, logged and traced, and how the parts are doing."""
