"""Models on rows they were not trained on: scores, paired comparisons, figures, model card."""
