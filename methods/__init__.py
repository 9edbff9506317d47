"""Fine-tuning methods, one file each: what a method changes about plain fine-tuning."""
