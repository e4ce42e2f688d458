"""Request bodies to samples, tables and reports: bounded, strict, every defect named."""
