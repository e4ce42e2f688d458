"""What callers send: bounded, strict, and every defect named."""
