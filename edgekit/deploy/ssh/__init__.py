"""Boards over SSH: facts are gathered, a pure function makes a plan of them, and the plan is carried out."""
