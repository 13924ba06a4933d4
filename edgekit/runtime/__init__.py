"""The device side: preprocessing, interpreters, classification, latency. No training library here."""
