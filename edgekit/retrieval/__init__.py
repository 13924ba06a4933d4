"""Device side: features of pictures, an index of them on disk, and the pictures nearest to one. No torch, no onnx."""
