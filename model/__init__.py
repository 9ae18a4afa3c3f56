"""Models: data sets, training, evaluation, the registry, and the scorer on XGBoost."""
