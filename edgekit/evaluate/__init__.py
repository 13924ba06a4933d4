"""Metrics of models: accuracy with its interval, per-class scores, ROC, calibration, two models compared.

- `scoring`: `score_model`, every metric at once, from `metrics`, `classwise`, `ranking`, `calibration`
- `comparison`: McNemar's test; `balance`: imbalance noticed; `probabilities`: logits told from probabilities
"""
