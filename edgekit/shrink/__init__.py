"""Deep Compression before quantization: prune channels and weights, share what stays, fine-tune in between."""
