"""The catalogue of cameras: one file for each kind, whose name is the kind, each with one constant `CAMERA`."""
