"""The board's side of signed updates: what is offered, checked against signatures, versions and what was seen before.

`client.UpdateClient` is the way in. See docs/trust.md.
"""
