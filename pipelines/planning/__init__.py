"""What a flow will take before it is run: units, bytes, FLOPs, time and money (`curate plan`)."""
