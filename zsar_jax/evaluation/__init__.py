"""Zero-shot evaluation: accuracies, and measures of static bias."""
