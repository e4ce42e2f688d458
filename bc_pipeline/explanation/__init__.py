"""How much each feature contributes to a prediction: linear form or Shapley values."""
