"""Fine-tuning methods, one file each: what the method changes about plain fine-tuning, and nothing
else.
"""
