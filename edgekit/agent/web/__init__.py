"""What a browser, a script or Prometheus sees of the agent: live page, streams, metrics, health. It only looks."""
