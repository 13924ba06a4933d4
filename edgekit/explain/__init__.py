"""What a model looks at: occlusion of any file, gradients and layer responses of a float model."""
