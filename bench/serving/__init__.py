"""What `predict_service.py` and `locustfile.py` measure, and what they measure it with."""
