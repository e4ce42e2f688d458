"""Train, evaluate, gate, promote and serve models for cancer classification.

Decision support for research. Not a medical device: no output of this package may be
the only ground for a clinical decision.
"""

__version__ = "0.2.0.dev0"
